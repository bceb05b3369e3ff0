//! Batches of git LFS as git-lfs sends them and hosts answer them, and a pointer.

const OID: &str = "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393";

/// One of each kind: a request and its answer.
pub fn all() -> Vec<[String; 2]> {
    let object = format!(r#"{{"oid":"{OID}","size":12345}}"#);
    let request = |operation: &str| {
        format!(
            r#"{{"operation":"{operation}","transfers":["basic"],"ref":{{"name":"refs/heads/a"}},"objects":[{object}],"hash_algo":"sha256"}}"#
        )
    };
    let answer = |more: &str| {
        format!(r#"{{"transfer":"basic","objects":[{{"oid":"{OID}","size":12345,{more}}}],"hash_algo":"sha256"}}"#)
    };
    let action = r#"{"href":"https://h.test/o/1","header":{"Authorization":"RemoteAuth x","Accept":"a"},"expires_in":60}"#;
    vec![
        [request("download"), answer(&format!(r#""authenticated":true,"actions":{{"download":{action}}}"#))],
        [request("upload"), answer(&format!(r#""actions":{{"upload":{action},"verify":{action}}}"#))],
        [request("download"), answer(r#""error":{"code":404,"message":"Object does not exist"}"#)],
        [request("upload"), answer(r#""authenticated":true"#)],
        [request("download"), answer(r#""actions":null"#)],
        [request("delete"), r#"{"message":"odd"}"#.into()],
        [request("upload").replace("basic", "ssh"), answer(r#""error":{}"#)],
        [r#"{"operation":"upload","objects":[]}"#.into(), r#"{"objects":[]}"#.into()],
        [format!("version https://git-lfs.github.com/spec/v1\noid sha256:{OID}\nsize 12345\n"), String::new()],
    ]
}
