//! Completion of command lines for shells, as Consul does it: the shell runs this program with `COMP_LINE`, and
//! `-autocomplete-install` tells the shells to do so.
//!
//! What there is to be completed is read from the help texts, so that a new verb or flag needs nothing here.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::{Done, Failure, Io};

/// Prints what may stand at the end of a command line.
pub(super) fn answer(line: &str, io: &mut Io<'_>) -> Done {
    for word in complete(line, &help) {
        writeln!(io.out, "{word}")?;
    }
    Ok(0)
}

/// The help of a command, as it would be printed.
pub(super) fn help(path: &[&str]) -> String {
    let mut args: Vec<String> = path.iter().map(|&word| word.to_owned()).collect();
    args.push("-help".to_owned());
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut io = Io {
        out: &mut out,
        err: &mut err,
        input: &mut std::io::empty(),
        env: &|_| None,
    };
    super::run(&args, &mut io);
    String::from_utf8_lossy(&out).into_owned()
}

/// The words that may stand at the end of a line.
fn complete(line: &str, help: &dyn Fn(&[&str]) -> String) -> Vec<String> {
    let mut words: Vec<&str> = line.split_whitespace().collect();
    let begun = match line.ends_with(char::is_whitespace) {
        true => "",
        false => words.pop().unwrap_or_default(),
    };
    let mut path = Vec::new();
    for word in words.into_iter().skip(1) {
        // A flag's value may look like a command; commands come first.
        if word.starts_with('-') || !commands(&help(&path), &path).contains(&word.to_owned()) {
            break;
        }
        path.push(word);
    }
    let text = help(&path);
    let mut found = match begun.starts_with('-') {
        true => flags(&text),
        false => commands(&text, &path),
    };
    found.retain(|word| word.starts_with(begun));
    found.sort();
    found.dedup();
    found
}

/// The commands below a path. `raft list-peers` is `raft` at first, and `list-peers` behind it.
fn commands(help: &str, path: &[&str]) -> Vec<String> {
    let listed = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| line.starts_with("    "));
    let names = listed.filter_map(|line| {
        let name = line.trim_start().split("  ").next()?;
        let mut words = name.split(' ');
        let first = words.next()?;
        match words.next() {
            Some(second) if path.last() == Some(&first) => Some(second.to_owned()),
            // Of another group.
            _ if path.len() > 1 => None,
            _ => Some(first.to_owned()),
        }
    });
    names.collect()
}

fn flags(help: &str) -> Vec<String> {
    let lines = help.lines().filter(|line| line.starts_with("  -"));
    let names = lines.filter_map(|line| {
        let name = line.trim_start().split([' ', ',', '=']).next()?;
        Some(format!("-{}", name.trim_start_matches('-')))
    });
    names.collect()
}

/// A file of a shell, and the lines that belong into it.
#[derive(Debug, PartialEq, Eq)]
struct Hook {
    file: PathBuf,
    lines: Vec<String>,
}

/// What each shell of a person needs; those that are not in use have no files.
fn hooks(home: &Path, program: &Path, exists: &dyn Fn(&Path) -> bool) -> Vec<Hook> {
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    let program = program.display();
    let mut hooks = Vec::new();
    let bash = [".bashrc", ".bash_profile", ".bash_login", ".profile"];
    if let Some(file) = bash
        .map(|file| home.join(file))
        .into_iter()
        .find(|f| exists(f))
    {
        let lines = vec![format!("complete -C {program} {name}")];
        hooks.push(Hook { file, lines });
    }
    let zsh = home.join(".zshrc");
    if exists(&zsh) {
        let lines = vec![
            "autoload -U +X bashcompinit && bashcompinit".to_owned(),
            format!("complete -o nospace -C {program} {name}"),
        ];
        hooks.push(Hook { file: zsh, lines });
    }
    let fish = home.join(".config/fish");
    if exists(&fish) {
        let ask = format!("env COMP_LINE=(commandline --cut-at-cursor | string collect) {program}");
        let lines = vec![format!(
            "complete --command {name} --no-files --arguments \"({ask})\""
        )];
        let file = fish.join("completions").join(format!("{name}.fish"));
        hooks.push(Hook { file, lines });
    }
    hooks
}

/// Puts the hooks into the files of the shells, or takes them out.
pub(super) fn install(on: bool, io: &mut Io<'_>) -> Done {
    let program = std::env::current_exe().map_err(Failure::because("cannot find this program"))?;
    let home = (io.env)("HOME").filter(|home| !home.is_empty());
    let Some(home) = home else {
        return Err(Failure::Message("HOME is not set".into()));
    };
    let hooks = hooks(Path::new(&home), &program, &|path| path.exists());
    if hooks.is_empty() {
        let text = "Did not find any shells to install";
        return Err(Failure::Message(text.into()));
    }
    for hook in &hooks {
        let shown = hook.file.display();
        let changed = change(hook, on).map_err(Failure::because(&shown.to_string()))?;
        match (changed, on) {
            (true, true) => writeln!(io.out, "installed in {shown}")?,
            (true, false) => writeln!(io.out, "removed from {shown}")?,
            (false, true) => writeln!(io.out, "already installed in {shown}")?,
            (false, false) => writeln!(io.out, "not installed in {shown}")?,
        }
    }
    Ok(0)
}

/// Whether the file had to be changed.
fn change(hook: &Hook, on: bool) -> std::io::Result<bool> {
    let text = match fs::read_to_string(&hook.file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    let is_ours = |line: &str| hook.lines.iter().any(|ours| ours == line);
    if on {
        let missing = |ours: &&String| !text.lines().any(|line| line == **ours);
        let missing: Vec<_> = hook.lines.iter().filter(missing).collect();
        if missing.is_empty() {
            return Ok(false);
        }
        if let Some(folder) = hook.file.parent() {
            fs::create_dir_all(folder)?;
        }
        let options = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&hook.file);
        let mut file = options?;
        let mut added = String::new();
        if !text.is_empty() && !text.ends_with('\n') {
            added.push('\n');
        }
        for line in missing {
            added.push_str(line);
            added.push('\n');
        }
        file.write_all(added.as_bytes())?;
        return Ok(true);
    }
    if !text.lines().any(is_ours) {
        return Ok(false);
    }
    let left: Vec<&str> = text.lines().filter(|line| !is_ours(line)).collect();
    if left.is_empty() && hook.file.extension().is_some_and(|e| e == "fish") {
        fs::remove_file(&hook.file)?;
        return Ok(true);
    }
    let mut left = left.join("\n");
    left.push('\n');
    // In place: a file of a shell is often a link.
    fs::write(&hook.file, left)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(line: &str) -> Vec<String> {
        complete(line, &help)
    }

    #[test]
    fn commands_and_flags_are_offered_where_they_may_stand() {
        assert_eq!(offered("agent mon"), ["monitor"]);
        assert_eq!(
            offered("agent kv "),
            ["delete", "export", "get", "import", "put"]
        );
        assert_eq!(offered("agent kv g"), ["get"]);
        assert_eq!(offered("agent operator "), ["autopilot", "raft", "usage"]);
        assert_eq!(offered("agent operator raft l"), ["list-peers"]);
        assert_eq!(offered("agent operator usage "), ["instances"]);
        assert_eq!(offered("agent kv get -recu"), ["-recurse"]);
        assert_eq!(offered("agent kv put -ca-f"), ["-ca-file"]);
        assert_eq!(offered("agent agent -data"), ["-data-dir", "-datacenter"]);
        assert_eq!(offered("agent lock -n"), ["-n", "-name", "-namespace"]);
        assert_eq!(offered("agent zz "), offered("agent "));
        assert!(offered("agent ").len() > 25);
        assert_eq!(offered("agent kv get some/key "), offered("agent kv get "));
    }

    #[test]
    fn every_shell_in_use_gets_its_lines_once_and_loses_them_again() {
        let home = tempfile::tempdir().unwrap();
        let exists = |path: &Path| path.exists();
        let program = Path::new("/opt/bin/agent");
        assert_eq!(hooks(home.path(), program, &exists), []);
        let bashrc = home.path().join(".bashrc");
        fs::write(&bashrc, "alias l=ls").unwrap();
        fs::write(home.path().join(".zshrc"), "").unwrap();
        fs::create_dir_all(home.path().join(".config/fish")).unwrap();
        let hooks = hooks(home.path(), program, &exists);
        assert_eq!(hooks.len(), 3);
        for hook in &hooks {
            assert!(change(hook, true).unwrap(), "{hook:?}");
            assert!(!change(hook, true).unwrap(), "{hook:?}");
        }
        assert_eq!(
            fs::read_to_string(&bashrc).unwrap(),
            "alias l=ls\ncomplete -C /opt/bin/agent agent\n"
        );
        for hook in &hooks {
            assert!(change(hook, false).unwrap(), "{hook:?}");
            assert!(!change(hook, false).unwrap(), "{hook:?}");
        }
        assert_eq!(fs::read_to_string(&bashrc).unwrap(), "alias l=ls\n");
        assert!(!hooks[2].file.exists());
    }
}
