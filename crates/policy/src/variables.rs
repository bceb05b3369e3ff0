//! The variables of an environment: `.env` lines.
//!
//! ```text
//!  KEY=value      a variable; the value is everything after the first `=`, literally
//!  # words        a comment
//!                 an empty line
//! ```
//!
//! Anything else is refused with its line. What is allowed but rarely meant is told: quotes, which
//! would be part of the value, and names that change programs rather than tell them something.

use protocol::egress::PROXY_PORT;

/// Names that the platform sets itself; it wins.
const OURS: [&str; 8] = [
    "CLAUDECODE",
    "CLAUDE_CODE_REMOTE",
    "CLAUDE_CODE_REMOTE_SESSION_ID",
    "CLAUDE_CODE_SESSION_ID",
    "CLAUDE_ENV_FILE",
    "CLAUDE_PROJECT_DIR",
    "GIT_TERMINAL_PROMPT",
    "GIT_EDITOR",
];

/// What a name of ours begins with.
const OUR_PREFIX: &str = "PATCHYARD_";

/// Names that change what every program of the sandbox does.
const POWERFUL: [&str; 9] = [
    "BASH_ENV",
    "ENV",
    "GCONV_PATH",
    "IFS",
    "NODE_OPTIONS",
    "PATH",
    "PERL5OPT",
    "PYTHONSTARTUP",
    "SHELLOPTS",
];

/// The same for whole families of names.
const POWERFUL_PREFIXES: [&str; 3] = ["LD_", "GIT_CONFIG", "BASH_FUNC_"];

/// Parts of names that hold secrets.
const SECRET_WORDS: [&str; 6] = ["TOKEN", "SECRET", "PASSWORD", "PASSWD", "API_KEY", "PRIVATE_KEY"];

/// The variables by which programs find the proxy in their sandbox. Those that do not look at them are
/// captured.
#[must_use]
pub fn of_the_proxy() -> Vec<(String, String)> {
    let proxy = format!("http://127.0.0.1:{PROXY_PORT}");
    let own = "localhost,127.0.0.1,::1";
    [("HTTP_PROXY", proxy.as_str()), ("HTTPS_PROXY", &proxy), ("ALL_PROXY", &proxy), ("NO_PROXY", own)]
        .into_iter()
        .flat_map(|(name, value)| [name.to_owned(), name.to_lowercase()].map(|name| (name, value.to_owned())))
        .collect()
}

/// The same for Java, which knows neither those variables nor the image's authorities: one variable, that
/// every JVM looks at when it starts, and says so on its standard error.
#[must_use]
pub fn of_java(key_store: &str) -> (String, String) {
    let proxy = ["http", "https"]
        .map(|scheme| format!("-D{scheme}.proxyHost=127.0.0.1 -D{scheme}.proxyPort={PROXY_PORT}"))
        .join(" ");
    let options =
        format!("{proxy} -Dhttp.nonProxyHosts=localhost|127.*|[::1] -Djavax.net.ssl.trustStore={key_store}");
    ("JAVA_TOOL_OPTIONS".to_owned(), options)
}

/// Variables in order, and what their author should look at again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Variables {
    /// Name and value; a name is there once, with its last value.
    pub pairs: Vec<(String, String)>,
    /// A sentence each.
    pub warnings: Vec<String>,
}

/// A line that is no variable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the variables {what}; write KEY=value, one per line, `#` for a comment")]
pub struct VariablesError {
    /// From 1.
    pub line: usize,
    /// What is wrong with it, without its value.
    pub what: String,
}

/// Reads the text as people typed it.
pub fn parse(text: &str) -> Result<Variables, VariablesError> {
    let mut variables = Variables::default();
    for (index, raw) in text.split('\n').enumerate() {
        let line = index + 1;
        let text = raw.strip_suffix('\r').unwrap_or(raw);
        if text.trim().is_empty() || text.trim_start().starts_with('#') {
            continue;
        }
        let refused = |what: String| VariablesError { line, what };
        let (name, value) = text.split_once('=').ok_or_else(|| refused("has no `=`".into()))?;
        let name = name.trim();
        if !is_name(name) {
            let shown: String = name.chars().filter(|c| !c.is_control()).take(40).collect();
            return Err(refused(format!("has `{shown}` for a name, which is none")));
        }
        if value.chars().any(|c| c == '\0') {
            return Err(refused(format!("gives {name} a value with a NUL in it")));
        }
        warn(&mut variables, line, name, value);
        variables.pairs.retain(|(earlier, _)| earlier != name);
        variables.pairs.push((name.to_owned(), value.to_owned()));
    }
    Ok(variables)
}

/// Whether a variable can have this name.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && name.len() <= 256
}

fn warn(variables: &mut Variables, line: usize, name: &str, value: &str) {
    let mut warnings = Vec::new();
    let trimmed = value.trim();
    if ['"', '\''].iter().any(|quote| trimmed.starts_with(*quote) || trimmed.ends_with(*quote)) {
        warnings.push(format!("line {line}: the quotes are part of the value of {name}"));
    }
    if trimmed.len() != value.len() {
        warnings.push(format!("line {line}: the spaces around it are part of the value of {name}"));
    }
    if OURS.contains(&name) || name.starts_with(OUR_PREFIX) {
        warnings.push(format!("line {line}: {name} is set by patchyard, and this value is not used"));
    } else if POWERFUL.contains(&name) || POWERFUL_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
        warnings.push(format!("line {line}: {name} changes what every program of the sandbox does"));
    }
    let upper = name.to_ascii_uppercase();
    if SECRET_WORDS.iter().any(|word| upper.contains(word)) {
        warnings.push(format!(
            "line {line}: {name} looks like a secret; it is visible to whoever can edit the environment, and \
             to everything that runs in the sandbox"
        ));
    }
    if variables.pairs.iter().any(|(earlier, _)| earlier == name) {
        warnings.push(format!("line {line}: {name} stands there twice; the last one counts"));
    }
    variables.warnings.extend(warnings);
}

/// Whether the platform sets this name itself.
#[must_use]
pub fn is_ours(name: &str) -> bool {
    OURS.contains(&name) || name.starts_with(OUR_PREFIX)
}

/// The variables by which programs find their authorities: OpenSSL, curl, Python, git, cargo, the AWS
/// tools, Deno, Bundler; and Node, which takes them as further ones.
pub const OF_AUTHORITIES: [&str; 10] = [
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "GIT_SSL_CAINFO",
    "CARGO_HTTP_CAINFO",
    "AWS_CA_BUNDLE",
    "DENO_CERT",
    "BUNDLE_SSL_CA_CERT",
    "NODE_EXTRA_CA_CERTS",
];

/// Whether a name says where the network, the model or trust are, so that no repository may set it.
#[must_use]
pub fn is_of_platform(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    is_ours(&upper)
        || upper.ends_with("_PROXY")
        || upper.starts_with("ANTHROPIC_")
        || upper.starts_with("CLAUDE_CODE_REMOTE")
        || OF_AUTHORITIES.contains(&upper.as_str())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_are_literal_and_comments_are_none() {
        let text = "# words\n\nA=1\r\nB=\"two words\"\nC=x=y#z\n  # more\nD=\nA=3\n";
        let read = parse(text).unwrap();
        let pairs: Vec<_> = read.pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(pairs, [("B", "\"two words\""), ("C", "x=y#z"), ("D", ""), ("A", "3")]);
        assert_eq!(read.warnings.len(), 2, "{:?}", read.warnings);
        assert!(read.warnings[0].contains("quotes") && read.warnings[1].contains("twice"));
    }

    #[test]
    fn what_is_no_variable_is_refused_with_its_line_and_without_its_value() {
        for text in ["A=1\nexport B=s3cret", "A=1\nB", "A=1\n=s3cret", "A=1\n1A=s3cret", "A=1\nA-B=s3cret"] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.line, 2, "{text}");
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
        assert!(parse("A=\0").is_err());
    }

    #[test]
    fn names_that_do_more_than_tell_are_told() {
        for (text, word) in [
            ("LD_PRELOAD=/x.so", "every program"),
            ("PATH=/bin", "every program"),
            ("CLAUDE_CODE_REMOTE=false", "not used"),
            ("PATCHYARD_SESSION_ID=x", "not used"),
            ("GITHUB_TOKEN=x", "secret"),
            ("A= x", "spaces"),
        ] {
            let warnings = parse(text).unwrap().warnings.join("\n");
            assert!(warnings.contains(word), "{text}: {warnings}");
        }
        assert_eq!(parse("TZ=UTC").unwrap().warnings, Vec::<String>::new());
    }

    proptest! {
        /// Whatever is typed: no panic, and what is read can be put into an environment.
        #[test]
        fn every_pair_is_one_that_exec_takes(text in "(?s).{0,400}") {
            if let Ok(read) = parse(&text) {
                for (name, value) in read.pairs {
                    prop_assert!(is_name(&name));
                    prop_assert!(!value.contains(['\0', '\n']));
                }
            }
        }
    }
}
