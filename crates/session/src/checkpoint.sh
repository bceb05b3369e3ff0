# Commits the workspace's state on the session's branch and prints the commit.
#
# Runs inside the sandbox. It uses a git directory of its own, so that whatever the agent did to the
# workspace's .git (removed it, broke it, changed its configuration, left it mid-merge) cannot keep
# the files from being recorded. Expects: WORKSPACE, BRANCH, TIP, MESSAGE, REPOSITORY.
set -eu

own=/var/lib/patchyard/checkpoint.git
if [ ! -f "$own/HEAD" ]; then
    rm -rf "$own"
    git init --quiet --bare --template= "$own"
fi
objects="$REPOSITORY/objects"
if [ -d "$WORKSPACE/.git/objects" ]; then
    objects="$objects
$WORKSPACE/.git/objects"
fi
printf '%s\n' "$objects" > "$own/objects/info/alternates"

export GIT_DIR="$own" GIT_WORK_TREE="$WORKSPACE" GIT_INDEX_FILE="$own/index"
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
cd "$WORKSPACE"
quiet="-c advice.addEmbeddedRepo=false -c core.fsmonitor=false -c core.safecrlf=false -c gc.auto=0"
[ -f "$GIT_INDEX_FILE" ] || git read-tree "$TIP"

# Repositories that the agent made inside the workspace. git itself would record no more of them than
# a commit that nobody else has, or refuse; their files are recorded like all others.
{ cat .git/info/exclude 2>/dev/null || true; echo; } > "$own/exclude"
quiet="$quiet -c core.excludesFile=$own/exclude"
# An outer one before those in it: its files are taken anew, and theirs with them.
find . -mindepth 2 -name .git -prune | sed 's|^\./||; s|/\.git$||' | LC_ALL=C sort | while IFS= read -r dir; do
    # A submodule of the base stays what it is, and what is ignored stays out.
    [ "$(git ls-tree "$TIP" -- "$dir" | cut -c1-6)" != 160000 ] || continue
    git $quiet check-ignore --quiet -- "$dir" || printf '%s\n' "$dir"
done > "$own/nested"
sed 's/[][*?!#\\]/\\&/g; s|.*|/&/|' "$own/nested" >> "$own/exclude"
git $quiet add --all .
while IFS= read -r dir; do
    git rm -r --quiet --cached --ignore-unmatch -- ":(literal)$dir"
    (
        cd "$dir"
        # What the nested repository ignores stays out; where it is broken, nothing is ignored.
        env -u GIT_DIR -u GIT_WORK_TREE -u GIT_INDEX_FILE \
            git ls-files -z --cached --others --exclude-standard 2>/dev/null ||
            find . -name .git -prune -o -print0
    ) | (cd "$dir" && DIR=$dir xargs -0 sh -c '
        for file; do
            if [ -f "$file" ] || [ -L "$file" ]; then printf "%s/%s\0" "$DIR" "${file#./}"; fi
        done' sh) | git $quiet update-index --add -z --stdin
done < "$own/nested"
tree=$(git write-tree)

# The branch as the agent left it, moved forward to HEAD where HEAD only adds to it.
inside() { git --git-dir="$WORKSPACE/.git" rev-parse --quiet --verify "$1^{commit}" 2>/dev/null; }
parent=$(inside "refs/heads/$BRANCH") || parent=$TIP
head=$(inside HEAD) || head=$parent
if git merge-base --is-ancestor "$parent" "$head" 2>/dev/null; then
    parent=$head
fi
if [ "$(git rev-parse "$parent^{tree}")" = "$tree" ]; then
    commit=$parent
else
    commit=$(printf '%s\n' "$MESSAGE" | git commit-tree "$tree" -p "$parent")
fi
git update-ref "refs/heads/$BRANCH" "$commit"

# Bring the workspace's own branch along, so that `git status` is clean and the next turn goes on
# from here. A workspace without a usable .git keeps its files; the record is safe either way.
if inside HEAD >/dev/null && [ "$commit" != "$(inside "refs/heads/$BRANCH" || true)" ]; then
    theirs="git --git-dir=$WORKSPACE/.git --work-tree=$WORKSPACE"
    unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE
    if $theirs fetch --quiet --no-tags --no-write-fetch-head --update-head-ok "$own" \
        "+refs/heads/$BRANCH:refs/heads/$BRANCH" >/dev/null 2>&1 &&
        [ "$($theirs symbolic-ref --quiet HEAD || true)" = "refs/heads/$BRANCH" ]; then
        $theirs reset --quiet --mixed >/dev/null 2>&1 || true
    fi
fi
printf '%s\n' "$commit"
