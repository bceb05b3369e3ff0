# Takes away what making the image left behind.
apt-get clean
rm -rf "$HOME/.npm" "$HOME/.cache" /usr/sbin/policy-rc.d
find / -xdev -name __pycache__ -path '/opt/*' -prune -exec rm -rf {} +
chmod 0755 /usr/share/patchyard
