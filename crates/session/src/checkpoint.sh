# Commits the workspace's state and prints the commit and a link, or only TIP when nothing changed.
#
#   MOMENT=batch   in the middle of a turn: the workspace's .git is only read
#   MOMENT=rest    at its end: the session's branch in the workspace is brought along, too
#
#       branch as the agent left it ──▶ commit          what is kept
#                              └──────▶ link ──▶ link   the same files after those of the checkpoint before,
#                                                       so that only what changed since has to be sent
#
# A submodule is recorded as the commit that is checked out in it. At rest, what it holds beside that is told
# in further lines: `files PATH` for changed files, `commits PATH` for commits that its remote has not.
#
# Runs inside the sandbox. It uses a git directory of its own, so that whatever the agent did to the
# workspace's .git (removed it, broke it, changed its configuration, left it mid-merge) cannot keep
# the files from being recorded. Expects: WORKSPACE, BRANCH, TIP, MESSAGE, REPOSITORY, MOMENT, and LINK,
# the newest link that the session's repository has, or nothing.
set -eu

own=/var/lib/patchyard/checkpoint.git
if [ ! -f "$own/HEAD" ]; then
    rm -rf "$own"
    git init --quiet --bare --template= "$own"
fi
# Only one of these runs at a time; one that was killed leaves its locks and its copy of the index.
rm -f "$own"/index.* "$own/refs/heads/$BRANCH.lock" "$own/refs/patchyard/link.lock"
objects="$REPOSITORY/objects"
if [ -d "$WORKSPACE/.git/objects" ]; then
    objects="$objects
$WORKSPACE/.git/objects"
fi
printf '%s\n' "$objects" > "$own/objects/info/alternates"

export GIT_DIR="$own" GIT_WORK_TREE="$WORKSPACE" GIT_INDEX_FILE="$own/index.next"
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
# Large files become pointers, whatever the image has: their content is fetched from LFS_OBJECTS.
export LFS_OBJECTS="$own/lfs/objects"
[ ! -d "$WORKSPACE/.git" ] || LFS_OBJECTS="$WORKSPACE/.git/lfs/objects"
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=filter.lfs.clean GIT_CONFIG_VALUE_0='/var/lib/patchyard/lfs clean'
cd "$WORKSPACE"
quiet="-c advice.addEmbeddedRepo=false -c core.fsmonitor=false -c core.safecrlf=false -c gc.auto=0"
# The first time the workspace's index saves reading every file, unless it says not to look at some.
if [ -f "$own/index" ]; then
    cp "$own/index" "$GIT_INDEX_FILE"
elif ! cp .git/index "$GIT_INDEX_FILE" 2>/dev/null || ! flags=$(git ls-files -v 2>/dev/null | cut -c1 | sort -u) ||
    [ "$flags" != H ]; then
    rm -f "$GIT_INDEX_FILE"
    git read-tree "$TIP"
fi

# git in a repository below the workspace.
below() {
    env -u GIT_DIR -u GIT_WORK_TREE -u GIT_INDEX_FILE git -c core.fsmonitor=false -C "$@" 2>/dev/null
}

# Paths of submodules: those of the base, and those that the agent added by its index and .gitmodules.
submodules() {
    { git -c core.quotePath=false ls-tree -r "$TIP" 2>/dev/null || :; } | sed -n 's/^160000 commit [0-9a-f]*\t//p'
    { git config --file .gitmodules --get-regexp '^submodule\..*\.path$' 2>/dev/null || :; } | cut -d' ' -f2- |
        while IFS= read -r dir; do
            staged=$(GIT_INDEX_FILE="$WORKSPACE/.git/index" git ls-files --stage -- ":(literal)$dir" 2>/dev/null) || :
            case $staged in 160000*) printf '%s\n' "$dir" ;; esac
        done
}

in_submodule() {
    while IFS= read -r module; do
        case $1/ in "$module"/*) return 0 ;; esac
    done < "$own/submodules"
    return 1
}

# Takes every file into the index.
fill() {
    # Repositories that the agent made inside the workspace. git itself would record no more of them than
    # a commit that nobody else has, or refuse; their files are recorded like all others.
    { cat .git/info/exclude 2>/dev/null || true; echo; } > "$own/exclude"
    quiet="$quiet -c core.excludesFile=$own/exclude"
    # An outer one before those in it: its files are taken anew, and theirs with them.
    find . -mindepth 2 -name .git -prune | sed 's|^\./||; s|/\.git$||' | LC_ALL=C sort > "$own/found"
    : > "$own/submodules"
    [ ! -s "$own/found" ] || submodules > "$own/submodules"
    while IFS= read -r dir; do
        # A submodule stays what it is, with those in it, and what is ignored stays out.
        ! in_submodule "$dir" || continue
        git $quiet check-ignore --quiet -- "$dir" || printf '%s\n' "$dir"
    done < "$own/found" > "$own/nested"
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
}
fill
# An object that was in the workspace's .git alone may be gone with it: all files are read again then.
if ! tree=$(git write-tree 2>/dev/null); then
    rm -f "$GIT_INDEX_FILE"
    git read-tree "$TIP" 2>/dev/null || git read-tree --empty
    fill
    tree=$(git write-tree)
fi
mv "$GIT_INDEX_FILE" "$own/index"
export GIT_INDEX_FILE="$own/index"
was=$(git rev-parse --quiet --verify "$TIP^{tree}") || was=
if [ "$MOMENT" = batch ] && [ "$tree" = "$was" ]; then
    printf '%s\n' "$TIP"
    exit
fi

# The branch as the agent left it, moved forward to HEAD where HEAD only adds to it.
inside() { git --git-dir="$WORKSPACE/.git" rev-parse --quiet --verify "$1^{commit}" 2>/dev/null; }
parent=$(inside "refs/heads/$BRANCH") || parent=$TIP
head=$(inside HEAD) || head=$parent
if [ "$head" != "$parent" ] && git merge-base --is-ancestor "$parent" "$head" 2>/dev/null; then
    parent=$head
fi
# The newest checkpoint is as good as another commit of the same files on the same commit.
if [ "$(git rev-parse "$parent^{tree}")" = "$tree" ]; then
    commit=$parent
elif [ "$tree" = "$was" ] && [ "$(git rev-parse --quiet --verify "$TIP^1")" = "$parent" ]; then
    commit=$TIP
else
    commit=$(printf '%s\n' "$MESSAGE" | git commit-tree "$tree" -p "$parent")
fi
link=$(printf 'link\n' | git commit-tree "$tree" -p "$parent" ${LINK:+-p "$LINK"}) ||
    link=$(printf 'link\n' | git commit-tree "$tree" -p "$parent")
printf 'update refs/heads/%s %s\nupdate refs/patchyard/link %s\n' "$BRANCH" "$commit" "$link" |
    git update-ref --stdin

# Bring the workspace's own branch along, so that `git status` is clean and the next turn goes on
# from here. A workspace without a usable .git keeps its files; the record is safe either way.
if [ "$MOMENT" = rest ] && inside HEAD >/dev/null && [ "$commit" != "$(inside "refs/heads/$BRANCH" || true)" ]; then
    theirs="git --git-dir=$WORKSPACE/.git --work-tree=$WORKSPACE"
    unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE
    if $theirs fetch --quiet --no-tags --no-write-fetch-head --update-head-ok "$own" \
        "+refs/heads/$BRANCH:refs/heads/$BRANCH" >/dev/null 2>&1 &&
        [ "$($theirs symbolic-ref --quiet HEAD || true)" = "refs/heads/$BRANCH" ]; then
        $theirs reset --quiet --mixed >/dev/null 2>&1 || true
    fi
fi
printf '%s %s\n' "$commit" "$link"

# What of submodules is in no commit that others can have.
[ "$MOMENT" = rest ] || exit 0
while IFS= read -r dir; do
    [ -e "$WORKSPACE/$dir/.git" ] || continue
    [ -z "$(below "$WORKSPACE/$dir" status --porcelain --ignore-submodules=none | head -n 1)" ] ||
        printf 'files %s\n' "$dir"
    head=$(below "$WORKSPACE/$dir" rev-parse --verify HEAD) || continue
    # What was fetched for the session is what it borrows objects from.
    borrowed=$(cd "$WORKSPACE/$dir" && head -n 1 "$(below . rev-parse --git-path objects/info/alternates)" 2>/dev/null) || :
    ! GIT_OBJECT_DIRECTORY=$borrowed git --git-dir="$own" cat-file -e "$head" 2>/dev/null || continue
    [ -z "$(below "$WORKSPACE/$dir" rev-list -n 1 HEAD --not --remotes --tags)" ] ||
        printf 'commits %s\n' "$dir"
done < "$own/submodules"
