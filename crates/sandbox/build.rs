//! Takes the guest program in, where it has been built: `scripts/build-guest` leaves it in the target
//! folder. Without it the crate builds all the same, and says so when a sandbox is asked for.

use std::path::PathBuf;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-env-changed=PATCHYARD_GUEST_BINARY");
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let guest = env::var_os("PATCHYARD_GUEST_BINARY")
        .map_or_else(|| root.join("../../target/guest/patchyard-guest"), PathBuf::from);
    println!("cargo::rerun-if-changed={}", guest.display());
    let bytes = match fs::read(&guest) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            println!("cargo::warning=the guest program is not built in; run scripts/build-guest");
            Vec::new()
        }
        Err(error) => return Err(error),
    };
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    fs::write(out.join("patchyard-guest"), bytes)
}
