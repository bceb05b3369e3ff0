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
if [ -f .git/info/exclude ]; then
    quiet="$quiet -c core.excludesFile=$WORKSPACE/.git/info/exclude"
fi
# A repository without a commit inside the workspace cannot be recorded and would stop everything.
if ! git $quiet add --all . 2>/dev/null; then
    find . -mindepth 2 -name .git -prune | while read -r nested; do
        dir=${nested%/.git}
        git --git-dir="$nested" rev-parse --quiet --verify HEAD >/dev/null 2>&1 || printf '/%s/\n' "${dir#./}"
    done > "$own/info-exclude"
    git $quiet -c core.excludesFile="$own/info-exclude" add --all .
fi
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
