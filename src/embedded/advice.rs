//! The last resort: the one line that installs Postgres on this system.

use super::{Environment, MAJOR_DEFAULT};

/// What to type, told from the package manager that is there.
pub(super) fn install(environment: &Environment, is_root: bool) -> String {
    let versioned = |name: &str| format!("{name}{MAJOR_DEFAULT}");
    let managers = [
        ("brew", format!("brew install {}", versioned("postgresql@"))),
        ("apt-get", "apt-get install -y postgresql".to_owned()),
        ("dnf", "dnf install -y postgresql-server".to_owned()),
        ("apk", format!("apk add {}", versioned("postgresql"))),
        ("pacman", "pacman -S --noconfirm postgresql".to_owned()),
        ("zypper", "zypper install -y postgresql-server".to_owned()),
    ];
    let Some((manager, line)) = managers.iter().find(|(name, _)| environment.program(name).is_some()) else {
        return "Install it from https://www.postgresql.org/download/ and set PG_BIN_DIR to its bin folder."
            .to_owned();
    };
    let sudo = if is_root || *manager == "brew" { "" } else { "sudo " };
    format!("Install it with: {sudo}{line}")
}

#[cfg(test)]
mod tests {
    use super::super::tests::Folder;
    use super::*;

    #[test]
    fn the_advice_is_the_line_for_this_system() {
        let folder = Folder::new();
        folder.script("apt-get", "");
        let mut environment = Environment {
            pg_bin_dir: None,
            pg_major: None,
            path: folder.as_os_str().to_owned(),
            cache_dir: None,
        };
        assert!(install(&environment, false).contains(": sudo apt-get install -y postgresql"));
        assert!(install(&environment, true).contains(": apt-get install"));
        environment.path = folder.join("nothing").into();
        assert!(install(&environment, false).contains("postgresql.org/download"));
    }
}
