//! Commands that a verb runs for its user.

use std::process::Command;

/// The command of these words: started as it is, or by a shell. Without words the shell has nothing to do.
pub(super) fn command(shell: bool, words: &[String]) -> Command {
    match (shell, words) {
        (false, [program, args @ ..]) => {
            let mut command = Command::new(program);
            command.args(args);
            command
        }
        (_, words) => {
            let mut command = Command::new("/bin/sh");
            command.arg("-c").arg(words.join(" "));
            command
        }
    }
}
