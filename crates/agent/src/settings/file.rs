//! Files read, and what they say together.

use std::collections::BTreeMap;
use std::path::PathBuf;

use policy::permissions::{Mode, Permissions, Places, RuleSource};
use policy::variables::{is_name, is_of_platform};
use serde_json::{Map, Value};

use super::servers::ServerSettings;
use crate::hooks::{self, Hooks};
use crate::steering::Held;

/// The most rules of one list that are read.
const MAX_RULES: usize = 2_000;

/// Whose settings they are, the strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// The operator's.
    Managed,
    /// What the person says for this run.
    CommandLine,
    /// `.claude/settings.local.json` of the repository.
    Local,
    /// `.claude/settings.json` of the repository.
    Project,
    /// The person's own, for all that they do.
    User,
}

impl Scope {
    /// Whether a repository may have brought it.
    fn is_of_repository(self) -> bool {
        matches!(self, Self::Local | Self::Project)
    }
}

/// Where settings hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Ground {
    /// In a sandbox, in which a session runs freely.
    #[default]
    Sandbox,
    /// On a person's machine, where they are asked.
    Machine {
        /// Whether the person trusts the repository: else nothing of it allows anything.
        trusted: bool,
        /// The folder with the person's own settings.
        user: PathBuf,
    },
}

/// One file, not yet read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsFile {
    /// How it is called in what people read.
    pub name: String,
    /// Whose it is.
    pub scope: Scope,
    /// What it holds.
    pub bytes: Vec<u8>,
}

/// What all files say together.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    ground: Ground,
    /// The model, where a file names one.
    pub model: Option<String>,
    rules: Vec<RuleSource>,
    mode: Option<Mode>,
    /// Whether no session may run without questions.
    no_bypass: bool,
    additional: Vec<String>,
    /// `env` of the repository, weaker than what the session sets.
    env: BTreeMap<String, String>,
    /// `env` of the person.
    own_env: BTreeMap<String, String>,
    /// `env` of the operator, stronger.
    managed_env: BTreeMap<String, String>,
    /// Whether only the operator allows.
    rules_only: bool,
    /// Whether commands inside of commands and skills do not run.
    pub(crate) no_skill_commands: bool,
    /// Hooks, the operator's first.
    pub hooks: Hooks,
    /// Which MCP servers may be used.
    pub(crate) servers: ServerSettings,
}

/// Switches that only the operator has.
#[derive(Debug, Default)]
struct OfOperator {
    rules_only: bool,
    hooks_only: bool,
    no_hooks: bool,
}

impl Settings {
    /// Reads files and says what is wrong with them. A file of the repository that is no JSON object is
    /// told and left out.
    ///
    /// # Errors
    ///
    /// What is wrong with a file of the operator: what it denies cannot be known.
    pub fn read(files: &[SettingsFile]) -> Result<(Self, Vec<String>), String> {
        Self::read_on(files, Ground::Sandbox)
    }

    /// The same where they hold elsewhere.
    ///
    /// # Errors
    ///
    /// What is wrong with a file of the operator.
    pub fn read_on(files: &[SettingsFile], ground: Ground) -> Result<(Self, Vec<String>), String> {
        let mut files: Vec<&SettingsFile> = files.iter().collect();
        files.sort_by_key(|file| file.scope);
        let (mut settings, mut remarks) = (Self { ground, ..Self::default() }, Vec::new());
        let mut operator = OfOperator::default();
        for file in files {
            let object = match serde_json::from_slice::<Value>(&file.bytes) {
                Ok(Value::Object(object)) => object,
                Ok(_) => {
                    refuse(file, "it is no JSON object", &mut remarks)?;
                    continue;
                }
                Err(error) => {
                    refuse(file, &format!("it is no JSON ({error})"), &mut remarks)?;
                    continue;
                }
            };
            let mut reader = Reader { file, settings: &mut settings, remarks: &mut remarks };
            if file.scope == Scope::Managed {
                let on = |key: &str| object.get(key) == Some(&Value::Bool(true));
                reader.settings.rules_only |= on("allowManagedPermissionRulesOnly");
                operator.rules_only |= on("allowManagedPermissionRulesOnly");
                operator.hooks_only |= on("allowManagedHooksOnly");
                operator.no_hooks |= on("disableAllHooks");
            }
            reader.object(&object, &operator);
            settings.servers.read(&object, &file.name, file.scope == Scope::Managed, &mut remarks);
        }
        Ok((settings, remarks))
    }

    /// The rules, for a session whose tools work there, and what is no rule. `granted` is allowed besides, and by
    /// whom.
    #[must_use]
    pub fn permissions(
        &self,
        workspace: &str,
        home: &str,
        granted: &[(String, Vec<String>)],
    ) -> (Permissions, Vec<String>) {
        let mut sources: Vec<RuleSource> = self
            .rules
            .iter()
            .map(|source| {
                let base =
                    if source.base.as_os_str().is_empty() { workspace.into() } else { source.base.clone() };
                RuleSource { base, ..source.clone() }
            })
            .collect();
        let grant = |(name, allow): &(String, Vec<String>)| RuleSource {
            name: name.clone(),
            base: workspace.into(),
            deny: Vec::new(),
            ask: Vec::new(),
            allow: allow.clone(),
        };
        sources.extend(granted.iter().filter(|_| !self.rules_only).map(grant));
        let join = |folder: &String| std::path::Path::new(workspace).join(folder);
        let places = Places {
            home: home.into(),
            workspace: workspace.into(),
            additional: self.additional.iter().map(join).collect(),
        };
        Permissions::compile(&sources, self.session_mode(), &places)
    }

    /// Mode and rules, for people.
    pub(crate) fn describe_permissions(&self) -> String {
        let mut text = format!("**Mode: `{}`**", self.session_mode().name());
        for RuleSource { name, deny, ask, allow, .. } in &self.rules {
            for (word, rules) in [("deny", deny), ("ask", ask), ("allow", allow)] {
                let rules: Vec<String> =
                    rules.iter().take(100).map(|rule| format!("`{}`", shown(rule))).collect();
                if !rules.is_empty() {
                    text.push_str(&format!("\n\n{word} ({name}): {}", rules.join(", ")));
                }
            }
        }
        if self.rules.is_empty() {
            text.push_str("\n\nNo settings file has a rule.");
        }
        text
    }

    /// The same as its driver changed it; an agent that was sent may keep the mode of its kind.
    pub(crate) fn steered(&self, held: &Held, keeps_mode: bool) -> Self {
        let mut settings = self.clone();
        if let Some(mode) = held.mode.filter(|_| !keeps_mode) {
            settings.mode = Some(mode);
        }
        let ours = held.rules.iter().map(|source| match self.rules_only {
            true => RuleSource { allow: Vec::new(), ..source.clone() },
            false => source.clone(),
        });
        settings.rules.extend(ours);
        settings.additional.extend(held.folders.iter().cloned());
        settings
    }

    /// Whether nothing may run without questions, whoever asks for it.
    #[must_use]
    pub fn forbids_bypass(&self) -> bool {
        self.no_bypass
    }

    /// A variable of `env`, of the person or the operator and never of a repository.
    #[must_use]
    pub fn own_variable(&self, name: &str) -> Option<&str> {
        self.managed_env.get(name).or_else(|| self.own_env.get(name)).map(String::as_str)
    }

    /// The same with a mode that narrows.
    pub(crate) fn narrowed(mut self, mode: Mode) -> Self {
        self.mode = Some(mode);
        self
    }

    /// The mode of a session: in a sandbox freely, on a machine by questions, unless somebody says otherwise.
    #[must_use]
    pub fn session_mode(&self) -> Mode {
        match self.mode {
            Some(Mode::BypassPermissions) | None if self.no_bypass => Mode::Default,
            Some(mode) => mode,
            None if self.ground == Ground::Sandbox => Mode::BypassPermissions,
            None => Mode::Default,
        }
    }

    /// Whether the operator's MCP servers are the only ones.
    #[must_use]
    pub fn only_operators_servers(&self) -> bool {
        self.servers.only_operators
    }

    /// Variables of commands and hooks, around those that the session sets.
    #[must_use]
    pub fn environment(&self, session: &[(String, String)]) -> Vec<(String, String)> {
        let mut all = self.env.clone();
        all.extend(session.iter().cloned());
        all.extend(self.managed_env.clone());
        all.into_iter().collect()
    }
}

/// A file that cannot be read: told of the repository's, and an error of the operator's.
fn refuse(file: &SettingsFile, why: &str, remarks: &mut Vec<String>) -> Result<(), String> {
    let told = format!("{}: {why}; none of it is used", file.name);
    match file.scope {
        Scope::Managed => Err(format!("the operator's settings cannot be used: {told}")),
        // The person wrote it, and wants to know that it does not hold.
        Scope::CommandLine => Err(told),
        Scope::Local | Scope::Project | Scope::User => {
            remarks.push(told);
            Ok(())
        }
    }
}

struct Reader<'a> {
    file: &'a SettingsFile,
    settings: &'a mut Settings,
    remarks: &'a mut Vec<String>,
}

impl Reader<'_> {
    fn of_operator(&self) -> bool {
        self.file.scope == Scope::Managed
    }

    /// Whether it is of a repository that the person does not trust.
    fn is_distrusted(&self) -> bool {
        let distrusted = matches!(self.settings.ground, Ground::Machine { trusted: false, .. });
        distrusted && self.file.scope.is_of_repository()
    }

    fn remark(&mut self, words: &str) {
        self.remarks.push(format!("{}: {words}", self.file.name));
    }

    fn object(&mut self, object: &Map<String, Value>, operator: &OfOperator) {
        let mut hooks_off = operator.no_hooks || (operator.hooks_only && !self.of_operator());
        for (key, value) in object {
            match key.as_str() {
                "permissions" => match value {
                    Value::Object(map) => self.permissions(map, operator),
                    _ => self.remark("`permissions` is no object; left out"),
                },
                "env" => match value {
                    Value::Object(map) => self.env(map),
                    _ => self.remark("`env` is no object; left out"),
                },
                "disableAllHooks" => match value {
                    Value::Bool(off) => hooks_off |= off,
                    _ => self.remark("`disableAllHooks` is neither true nor false; left out"),
                },
                "disableSkillShellExecution" => match value {
                    Value::Bool(off) => self.settings.no_skill_commands |= off,
                    _ => self.remark("`disableSkillShellExecution` is neither true nor false; left out"),
                },
                "model" => match value {
                    Value::String(model) => drop(self.settings.model.get_or_insert(model.clone())),
                    _ => self.remark("`model` is no text; left out"),
                },
                "apiKeyHelper" if !self.of_operator() => {
                    self.remark("`apiKeyHelper` is the operator's to say; left out");
                }
                // Hooks come last: whether they run is said beside them.
                _ => {}
            }
        }
        if let Some(value) = object.get("hooks").filter(|_| !hooks_off) {
            let ends = self.settings.ground != Ground::Sandbox;
            let told = hooks::read(value, &self.file.name, ends, &mut self.settings.hooks);
            self.remarks.extend(told);
        }
    }

    fn permissions(&mut self, map: &Map<String, Value>, operator: &OfOperator) {
        let deny = self.texts("permissions.deny", map.get("deny"), true);
        let ask = self.texts("permissions.ask", map.get("ask"), true);
        let mut allow = self.texts("permissions.allow", map.get("allow"), false);
        if operator.rules_only && !self.of_operator() {
            // A denial narrows, and stays.
            allow.clear();
        }
        let mut folders =
            self.texts("permissions.additionalDirectories", map.get("additionalDirectories"), false);
        if self.is_distrusted() && !(allow.is_empty() && folders.is_empty()) {
            self.remark("this folder is not trusted, so that what it allows is left out");
            allow.clear();
            folders.clear();
        }
        let base = match (&self.settings.ground, self.file.scope) {
            (_, Scope::Managed) => "/etc/claude-code".into(),
            (Ground::Machine { user, .. }, Scope::User) => user.clone(),
            _ => PathBuf::new(),
        };
        let source = RuleSource { name: self.file.name.clone(), base, deny, ask, allow };
        self.settings.rules.push(source);
        self.settings.additional.extend(folders);
        match map.get("disableBypassPermissionsMode") {
            None => {}
            Some(Value::String(text)) if text == "disable" => self.settings.no_bypass = true,
            Some(_) => {
                self.remark("`permissions.disableBypassPermissionsMode` can only be \"disable\"; left out")
            }
        }
        if let Some(value) = map.get("defaultMode") {
            self.mode(value);
        }
    }

    /// In a sandbox a repository's `default` and `acceptEdits`, meant for a person at a terminal, would
    /// only add questions; what narrows for its own sake holds.
    fn mode(&mut self, value: &Value) {
        let Some(mode) = value.as_str().and_then(Mode::parse) else {
            return self.remark("`permissions.defaultMode` is no mode that there is here; left out");
        };
        let narrows = matches!(mode, Mode::Plan | Mode::DontAsk);
        let holds = match self.settings.ground {
            Ground::Sandbox => self.of_operator() || narrows,
            // A repository does not do away with questions.
            Ground::Machine { trusted, .. } => {
                narrows || !self.file.scope.is_of_repository() || (trusted && mode != Mode::BypassPermissions)
            }
        };
        if holds {
            self.settings.mode.get_or_insert(mode);
        }
    }

    fn env(&mut self, map: &Map<String, Value>) {
        for (name, value) in map {
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Number(_) | Value::Bool(_) => value.to_string(),
                _ => {
                    self.remark(&format!("the variable `{}` has no text for a value; left out", shown(name)));
                    continue;
                }
            };
            if !is_name(name) || text.contains('\0') {
                self.remark(&format!("`{}` is no variable; left out", shown(name)));
            } else if policy::variables::is_ours(name)
                || (self.file.scope.is_of_repository() && is_of_platform(name))
            {
                self.remark(&format!("the variable {name} is not a settings file's to set; left out"));
            } else if self.of_operator() {
                self.settings.managed_env.entry(name.clone()).or_insert(text);
            } else {
                if !self.file.scope.is_of_repository() {
                    self.settings.own_env.entry(name.clone()).or_insert_with(|| text.clone());
                }
                self.settings.env.entry(name.clone()).or_insert(text);
            }
        }
    }

    /// A list of texts; a single text is taken for a list of one where it narrows.
    fn texts(&mut self, key: &str, value: Option<&Value>, narrows: bool) -> Vec<String> {
        let entries = match value {
            None => return Vec::new(),
            Some(Value::Array(entries)) => entries.as_slice(),
            Some(Value::String(text)) if narrows => {
                self.remark(&format!("`{key}` is no list, and taken as a list of one"));
                return vec![text.clone()];
            }
            Some(_) => {
                self.remark(&format!("`{key}` is no list; left out"));
                return Vec::new();
            }
        };
        if entries.len() > MAX_RULES {
            self.remark(&format!("`{key}` has more than {MAX_RULES} entries; the rest is left out"));
        }
        let mut texts = Vec::new();
        for (index, entry) in entries.iter().take(MAX_RULES).enumerate() {
            match entry {
                Value::String(text) => texts.push(text.clone()),
                _ => self.remark(&format!("entry {index} of `{key}` is no text; left out")),
            }
        }
        texts
    }
}

fn shown(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(60).collect()
}

#[cfg(test)]
mod tests;
