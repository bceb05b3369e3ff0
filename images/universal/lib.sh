# What the steps of this recipe have in common; read by each of them.

# Debian packages, without recommended ones; nothing is started while the image is made.
install() {
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod 0755 /usr/sbin/policy-rc.d
    [ -n "$(ls /var/lib/apt/lists/*Packages* 2>/dev/null | head -n 1)" ] || apt-get update -qq
    apt-get install -y -qq --no-install-recommends "$@" </dev/null
    rm -f /usr/sbin/policy-rc.d
}

# Whether the release has a package.
has_package() {
    [ -n "$(ls /var/lib/apt/lists/*Packages* 2>/dev/null | head -n 1)" ] || apt-get update -qq
    apt-cache show --no-all-versions "$1" >/dev/null 2>&1
}

# The release, in words for people.
release=$(. /etc/os-release && printf '%s' "$PRETTY_NAME")

# Lists something that could not be had: what, then why.
left_out() { printf '%s: %s\n' "$1" "$2" >>"$LEFT_OUT"; }

# A Python program in an environment of its own, so that its needs are nobody else's.
python_program() {
    name=$1
    shift
    python3 -m venv "/opt/$name"
    "/opt/$name/bin/pip" install --quiet --no-cache-dir --disable-pip-version-check "$name"
    for program in "$@"; do ln -sf "/opt/$name/bin/$program" "/usr/local/bin/$program"; done
}
