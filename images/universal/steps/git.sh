. /run/recipe/lib.sh
install git-lfs yq
git lfs version
yq --version
