//! Bodies of pushes and their answers, as git sends them.

const ZERO: &str = "0000000000000000000000000000000000000000";
const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

fn packets(lines: &[&str]) -> Vec<u8> {
    let all: String = lines.iter().map(|line| format!("{:04x}{line}", line.len() + 4)).collect();
    format!("{all}0000").into_bytes()
}

/// One of each kind.
pub fn all() -> Vec<Vec<u8>> {
    let create = format!("{ZERO} {A} refs/heads/a\0 report-status side-band-64k agent=git/2.47.3");
    let update = format!("{A} {A} refs/heads/b");
    let delete = format!("{A} {ZERO} refs/tags/v1\0 report-status delete-refs object-format=sha1");
    let pack = |head: Vec<u8>| [head.as_slice(), b"PACK\0\0\0\x02\0\0\0\0"].concat();
    let report = packets(&["unpack ok\n", "ok refs/heads/a\n", "ng refs/heads/b hook declined\n"]);
    let report = String::from_utf8_lossy(&report).into_owned();
    vec![
        b"0000".to_vec(),
        pack(packets(&[&create])),
        pack(packets(&[&create, &update])),
        packets(&[&delete]),
        pack(packets(&[&format!("shallow {A}"), &create])),
        pack(packets(&[&format!("{create}\n"), &format!("{update}\n")])),
        report.clone().into_bytes(),
        packets(&[&format!("\u{2}counting\rdone\n"), &format!("\u{1}{report}")]),
    ]
}
