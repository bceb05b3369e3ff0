# Lets the files of the workspace be those of a commit.
#
# Runs inside the sandbox, right after checkpoint.sh, whose git directory and index it uses: what that one
# recorded and the commit does not have goes, what differs is written anew, what git ignores stays. The
# workspace's .git is not touched. Expects: WORKSPACE, COMMIT.
set -eu

own=/var/lib/patchyard/checkpoint.git
export GIT_DIR="$own" GIT_WORK_TREE="$WORKSPACE" GIT_INDEX_FILE="$own/index"
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
cd "$WORKSPACE"
rm -f "$own/index.lock"
git -c core.hooksPath=/dev/null -c core.fsmonitor=false read-tree -u --reset "$COMMIT"
