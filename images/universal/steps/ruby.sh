. /run/recipe/lib.sh
install ruby ruby-dev bundler rbenv
version=$(ruby -e 'print RUBY_VERSION[/\d+\.\d+/]')
for wanted in 3.1 3.2 3.3; do
    [ "$wanted" = "$version" ] || left_out "Ruby $wanted" "$release carries Ruby $version, and no registry has others as programs"
done
# So that rbenv knows the one that is there.
mkdir -p "$HOME/.rbenv/versions"
ln -sfn /usr "$HOME/.rbenv/versions/$(ruby -e 'print RUBY_VERSION')"
