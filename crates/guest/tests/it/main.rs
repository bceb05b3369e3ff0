//! The search tools, run as the agent runs them: as commands with one argument.

// The lints know helpers of tests only inside of `#[test]`.
#![allow(clippy::unwrap_used)]

mod corpus;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tempfile::TempDir;

fn guest(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_patchyard-guest")).args(arguments).output().unwrap()
}

/// The answer to a request that has to be understood.
fn ask(tool: &str, request: &Value) -> Value {
    let output = guest(&[tool, &request.to_string()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The reason why a request is refused: one line, and exit code 2.
fn refusal(tool: &str, request: &str) -> String {
    let output = guest(&[tool, request]);
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    let reason = String::from_utf8(output.stderr).unwrap();
    assert_eq!(reason.lines().count(), 1, "{reason}");
    reason
}

/// A small repository, whose files are the older the later they are named.
fn repository() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let files: [(&str, &[u8]); 8] = [
        ("src/main.rs", b"fn main() {\n    let apple = 1;\n    print(apple);\n}\n"),
        ("src/deep/lib.rs", b"// Apple pie\nfn pie() {}\n"),
        ("web/app.ts", b"const apple = 'x';\n"),
        (".github/ci.yml", b"run: apple\n"),
        (".gitignore", b"ignored/\n"),
        ("ignored/out.rs", b"apple\n"),
        (".git/config", b"apple\n"),
        ("data.bin", b"apple\0apple\n"),
    ];
    let mut changed = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    for (name, content) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(changed).unwrap();
        changed -= Duration::from_secs(60);
    }
    folder
}

/// The text of an answer with the folder's path taken out.
fn text(answer: &Value, folder: &Path) -> String {
    answer["text"].as_str().unwrap().replace(&format!("{}/", folder.display()), "")
}

#[test]
fn grep_finds_files_newest_first_as_ripgrep_would() {
    let folder = repository();
    let path = folder.path();
    let answer = ask("grep", &json!({ "pattern": "apple", "path": path }));
    assert_eq!(text(&answer, path), "src/main.rs\nweb/app.ts\n.github/ci.yml");
    assert_eq!((&answer["files"], &answer["truncated"]), (&json!(3), &json!(false)));
    let answer =
        ask("grep", &json!({ "pattern": "apple", "path": path, "ignore_case": true, "type": "rust" }));
    assert_eq!(text(&answer, path), "src/main.rs\nsrc/deep/lib.rs");
    let answer = ask("grep", &json!({ "pattern": "apple", "path": path, "glob": "*.{ts,js} *.yml" }));
    assert_eq!(text(&answer, path), "web/app.ts\n.github/ci.yml");
    let answer = ask("grep", &json!({ "pattern": "nowhere", "path": path }));
    assert_eq!((text(&answer, path).as_str(), &answer["matches"]), ("", &json!(0)));
}

#[test]
fn grep_shows_lines_counts_and_windows() {
    let folder = repository();
    let path = folder.path();
    let content = |more: Value| {
        let mut request = json!({ "pattern": "apple", "path": path, "output_mode": "content" });
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        text(&ask("grep", &request), path)
    };
    let all = ".github/ci.yml:1:run: apple\nsrc/main.rs:2:    let apple = 1;\nsrc/main.rs:3:    print(apple);\n\
               web/app.ts:1:const apple = 'x';";
    assert_eq!(content(json!({})), all);
    assert_eq!(content(json!({ "head_limit": 1, "offset": 2 })), all.lines().nth(2).unwrap());
    assert_eq!(content(json!({ "head_limit": 0 })), all);
    assert_eq!(
        content(json!({ "glob": "main.rs", "before": 1, "line_numbers": false })),
        "src/main.rs-fn main() {\nsrc/main.rs:    let apple = 1;\nsrc/main.rs:    print(apple);"
    );
    assert_eq!(content(json!({ "glob": "*.ts", "only_matching": true })), "web/app.ts:1:apple");
    assert_eq!(
        content(json!({ "pattern": "main.*let", "multiline": true })),
        "src/main.rs:1:fn main() {\nsrc/main.rs:2:    let apple = 1;"
    );
    let count = ask("grep", &json!({ "pattern": "apple", "path": path, "output_mode": "count" }));
    assert_eq!(text(&count, path), ".github/ci.yml:1\nsrc/main.rs:2\nweb/app.ts:1");
    assert_eq!((&count["files"], &count["matches"]), (&json!(3), &json!(4)));
    let one = ask(
        "grep",
        &json!({ "pattern": "apple", "path": path.join("src/main.rs"), "output_mode": "content" }),
    );
    assert_eq!(text(&one, path), "2:    let apple = 1;\n3:    print(apple);");
}

#[test]
fn searches_leave_out_what_they_are_told_to() {
    let folder = repository();
    let path = folder.path();
    let exclude = json!([format!("{}/src", path.display()), format!("{}/**/*.yml", path.display())]);
    let answer = ask("grep", &json!({ "pattern": "apple", "path": path, "exclude": exclude }));
    assert_eq!(text(&answer, path), "web/app.ts");
    let answer = ask("glob", &json!({ "pattern": "**/*.{rs,yml}", "path": path, "exclude": exclude }));
    let files = answer["files"].to_string();
    assert!(
        files.contains("ignored/out.rs") && !files.contains("main.rs") && !files.contains("ci.yml"),
        "{files}"
    );
}

#[test]
fn grep_says_in_one_line_what_is_wrong() {
    let folder = repository();
    let path = folder.path().display();
    let cases = [
        (format!(r#"{{"pattern":"a(","path":"{path}"}}"#), "not a valid regular expression: unclosed group"),
        (format!(r#"{{"pattern":"a","path":"{path}/none"}}"#), "No such file or directory"),
        (format!(r#"{{"pattern":"a","path":"{path}","type":"nonsense"}}"#), "no file type `nonsense`"),
        (format!(r#"{{"pattern":"a","path":"{path}","glob":"a["}}"#), "file pattern `a[` is not valid"),
        (format!(r#"{{"pattern":"a","path":"{path}","word":"x"}}"#), "the request is not valid"),
        ("{".to_owned(), "the request is not valid"),
    ];
    for (request, words) in cases {
        let reason = refusal("grep", &request);
        assert!(reason.contains(words), "{reason}");
    }
}

#[test]
fn glob_finds_names_newest_first_and_ignored_ones_too() {
    let folder = repository();
    let path = folder.path();
    let found = |pattern: &str| {
        let answer = ask("glob", &json!({ "pattern": pattern, "path": path }));
        let files: Vec<Value> = answer["files"].as_array().unwrap().clone();
        let names = files
            .iter()
            .map(|file| Path::new(file.as_str().unwrap()).strip_prefix(path).unwrap().display().to_string());
        names.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(found("**/*.rs"), "src/main.rs src/deep/lib.rs ignored/out.rs");
    assert_eq!(found("*.rs"), "src/main.rs src/deep/lib.rs ignored/out.rs");
    assert_eq!(found("src/*.rs"), "src/main.rs");
    assert_eq!(found("src/**/*.{rs,ts}"), "src/main.rs src/deep/lib.rs");
    assert_eq!(found("**/config"), "", "the store of git is not looked into");
    assert_eq!(found(".github/**"), ".github/ci.yml");
    assert_eq!(found(&format!("{}/web/*", path.display())), "web/app.ts");
    assert!(refusal("glob", r#"{"pattern":"a["}"#).contains("not valid"));
}

#[test]
fn glob_gives_the_hundred_newest_of_many() {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..250_u64 {
        let path = folder.path().join(format!("{number:03}"));
        fs::write(&path, "").unwrap();
        let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + number);
        fs::File::options().write(true).open(&path).unwrap().set_modified(changed).unwrap();
    }
    let answer = ask("glob", &json!({ "pattern": "*", "path": folder.path() }));
    let files = answer["files"].as_array().unwrap();
    assert_eq!((files.len(), &answer["truncated"]), (100, &json!(true)));
    assert!(files[0].as_str().unwrap().ends_with("/249") && files[99].as_str().unwrap().ends_with("/150"));
}

#[test]
fn without_its_socket_process_1_says_so_and_ends() {
    let output = guest(&["init"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(guest(&["nonsense"]).status.code(), Some(2));
    assert!(String::from_utf8_lossy(&guest(&["version"]).stdout).starts_with("patchyard-guest "));
}
