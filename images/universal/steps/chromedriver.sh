. /run/recipe/lib.sh
if has_package chromium-driver; then
    install chromium chromium-driver
else
    left_out chromedriver "$release carries chromium only as a snap, which a sandbox cannot run"
fi
