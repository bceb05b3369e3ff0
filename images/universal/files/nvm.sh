# A small `nvm` that switches between the releases of Node that this image has.
#
# Not the nvm project: that one also downloads releases, which a sandbox has no network for.

NVM_DIR=${NVM_DIR:-/opt/nvm}

nvm() {
    case ${1:-help} in
    use)
        __nvm_found=$(__nvm_find "${2:-$(cat .nvmrc 2>/dev/null || cat "$NVM_DIR/default")}")
        if [ -z "$__nvm_found" ]; then
            echo "nvm: Node ${2:-} is not in this image; there is: $(ls "$NVM_DIR/versions/node" | tr '\n' ' ')" >&2
            return 3
        fi
        PATH=$(printf '%s' "$PATH" | tr ':' '\n' | grep -v "^$NVM_DIR/versions/" | paste -sd : -)
        PATH=$NVM_DIR/versions/node/$__nvm_found/bin:$PATH
        export PATH
        hash -r 2>/dev/null || true
        [ "${3:-}" = --silent ] || echo "Now using node $__nvm_found"
        ;;
    install)
        if [ -n "$(__nvm_find "${2:-}")" ]; then nvm use "${2:-}"; else
            echo "nvm: this nvm installs nothing; in this image there is: $(ls "$NVM_DIR/versions/node" | tr '\n' ' ')" >&2
            return 3
        fi
        ;;
    ls | list) ls "$NVM_DIR/versions/node" ;;
    current) node --version ;;
    alias | default) cat "$NVM_DIR/default" ;;
    which) printf '%s\n' "$NVM_DIR/versions/node/$(__nvm_find "${2:-$(cat "$NVM_DIR/default")}")/bin/node" ;;
    --version | version) echo 'patchyard 1 (switches installed releases only)' ;;
    *) echo 'nvm use|install VERSION · ls · current · which VERSION · alias' ;;
    esac
}

# The newest installed release that a version, such as 21, v21 or 21.7, is the beginning of.
__nvm_find() {
    case $1 in
    default | node | stable | 'lts/'*) cat "$NVM_DIR/default" ;;
    *) ls "$NVM_DIR/versions/node" | sort -V | grep -E "^v?${1#v}(\.|\$)" | tail -n 1 ;;
    esac
}
