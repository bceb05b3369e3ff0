. /run/recipe/lib.sh
# Some releases carry a newer Rust beside their own, for browsers.
if has_package rustc-web; then
    install rustc-web cargo-web
    left_out 'rustfmt and clippy' "$release carries them for its older Rust only"
else
    install rustc cargo rustfmt rust-clippy
fi
left_out rustup "its toolchains come from a server of the Rust project, which is no package registry; $(rustc --version) is installed"
printf 'fn main() { println!("rust works"); }\n' >/tmp/probe.rs
rustc -o /tmp/probe /tmp/probe.rs
/tmp/probe
