# Lets the files of the workspace be those of a commit.
#
# Runs inside the sandbox, right after checkpoint.sh, whose git directory and index it uses: what that one
# recorded and the commit does not have goes, what differs is written anew, what git ignores stays. Submodules
# are checked out at the commit's, unless files that were changed in them are in the way: those are nowhere else.
# The workspace's .git is not touched. Expects: WORKSPACE, COMMIT.
set -eu

own=/var/lib/patchyard/checkpoint.git
export GIT_DIR="$own" GIT_WORK_TREE="$WORKSPACE" GIT_INDEX_FILE="$own/index"
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
export LFS_OBJECTS="$own/lfs/objects"
[ ! -d "$WORKSPACE/.git" ] || LFS_OBJECTS="$WORKSPACE/.git/lfs/objects"
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=filter.lfs.smudge GIT_CONFIG_VALUE_0='/var/lib/patchyard/lfs smudge'
cd "$WORKSPACE"
rm -f "$own/index.lock"
git -c core.hooksPath=/dev/null -c core.fsmonitor=false read-tree -u --reset "$COMMIT"
git -c core.quotePath=false ls-files --stage | sed -n 's/^160000 \([0-9a-f]*\) 0\t/\1 /p' | while read -r commit dir; do
    [ -e "$dir/.git" ] || continue
    env -u GIT_DIR -u GIT_WORK_TREE -u GIT_INDEX_FILE \
        git -c core.hooksPath=/dev/null -c core.fsmonitor=false -C "$dir" checkout --quiet --detach "$commit" 2>/dev/null || :
done
