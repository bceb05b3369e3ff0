. /run/recipe/lib.sh
install php-cli php-curl php-mbstring php-xml php-zip php-sqlite3 php-pgsql composer
version=$(php -r 'echo PHP_MAJOR_VERSION . "." . PHP_MINOR_VERSION;')
[ "$version" = 8.4 ] || left_out "PHP 8.4" "$release carries PHP $version, which is installed"
