//! What no command may change in a folder that it may write: what other programs would run or trust
//! later, outside.

/// Whether a name is that of a file or of a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Folder,
}

/// Right in a folder.
pub(crate) const NAMES: &[(&str, Kind)] = &[
    (".mcp.json", Kind::File),
    (".gitmodules", Kind::File),
    (".gitconfig", Kind::File),
    (".ripgreprc", Kind::File),
    (".bashrc", Kind::File),
    (".bash_profile", Kind::File),
    (".bash_login", Kind::File),
    (".bash_logout", Kind::File),
    (".bash_aliases", Kind::File),
    (".profile", Kind::File),
    (".zshrc", Kind::File),
    (".zshenv", Kind::File),
    (".zprofile", Kind::File),
    (".zlogin", Kind::File),
    (".zlogout", Kind::File),
    (".kshrc", Kind::File),
    (".cshrc", Kind::File),
    (".tcshrc", Kind::File),
    (".login", Kind::File),
    (".vscode", Kind::Folder),
    (".idea", Kind::Folder),
];

/// In `.git`, where there is one.
pub(crate) const IN_GIT: &[(&str, Kind)] =
    &[("hooks", Kind::Folder), ("config", Kind::File), ("config.worktree", Kind::File)];

/// In `.claude`, where there is one.
pub(crate) const IN_CLAUDE: &[(&str, Kind)] = &[
    ("settings.json", Kind::File),
    ("settings.local.json", Kind::File),
    ("commands", Kind::Folder),
    ("agents", Kind::Folder),
    ("skills", Kind::Folder),
];

/// The protected kind of a name, however it is capitalised: on a file system that does not tell case,
/// and on the next machine, `.MCP.json` is the same file.
pub(crate) fn kind(name: &str) -> Option<Kind> {
    NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, kind)| *kind)
}
