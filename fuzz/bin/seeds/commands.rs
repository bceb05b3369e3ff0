//! Texts of commands, of every kind that a shell knows.

/// One of each.
pub const TEXTS: [&str; 16] = [
    "ls -la && git status | head -5; echo done &",
    "A=1 B+=x timeout 5 nice make -j2 2>&1 >out.txt",
    "echo \"a $(date) ${X:-y} $((1 + 2))\" 'b c' `pwd`",
    "if [ -e x ]; then rm -r y; elif true; then :; else cat <z; fi",
    "for f in a b *.c; do echo \"$f\"; done\nwhile read l; do echo $l; done < list",
    "case $1 in a|b) ls ;; (c) pwd ;& *) exit ;; esac",
    "f() { git push; }; function g { f; }; g # and more",
    "cat <<EOF >out\nbody $(ls)\nEOF\ncat <<-'END'\n\t$(no)\n\tEND\n",
    "[[ -n $a && b < c ]] && (cd sub; make) || { echo no; }",
    "diff <(sort a) <(sort b) &>log",
    "find . -name '*.rs' -exec sed -i s/a/b/ {} + | xargs -n1 -- rm -f",
    "bash -c 'ls; sh -ec \"rm x\"'; eval \"echo y\"; sudo -u bob env A=b ls",
    "arr=(1 '2 3' $(ls)); echo ${arr[0]} ${#arr} ${a/b/c}",
    "echo $'a\\'b' $\"c\" \\\n next \\; x{1,2} {a..c} {}",
    "cat <<< word; exec 3<>file; echo x >&2; read <&3; x >| y",
    "! time -p command ls; trap 'rm x' EXIT; alias l=ls",
];
