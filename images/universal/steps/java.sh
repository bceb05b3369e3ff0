. /run/recipe/lib.sh
if has_package openjdk-21-jdk-headless; then
    install openjdk-21-jdk-headless
else
    install openjdk-17-jdk-headless
    left_out "OpenJDK 21" "$release carries OpenJDK 17, which is installed"
fi
install maven gradle
version=$(gradle --version | sed -n 's/^Gradle //p')
case $version in
[89].*) ;;
*) left_out "Gradle 8" "$release carries Gradle $version, which is installed" ;;
esac
