. /run/recipe/lib.sh
# By its pattern: the name of the package reads like an address.
install '^docker[.]io$'
if has_package docker-compose-v2; then
    install docker-compose-v2
else
    install docker-compose
    left_out "compose as a docker command" "$release carries $(docker-compose --version), as the program docker-compose"
fi
