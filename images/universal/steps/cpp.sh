. /run/recipe/lib.sh
install clang cmake ninja-build autoconf automake libtool
python_program conan conan
conan --version
