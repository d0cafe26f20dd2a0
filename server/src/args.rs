//! The command line: what was typed, and nothing about whether it makes sense.
//!
//! Values stay the text they are. The configuration reads them with the same rules, and complains in the same
//! words, as it does for the environment and the file.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

/// The version, with the commit if the build has one.
static VERSION: LazyLock<String> = LazyLock::new(|| match COMMIT {
    Some(commit) => format!("{} ({commit})", env!("CARGO_PKG_VERSION")),
    None => String::from(env!("CARGO_PKG_VERSION")),
});

/// The commit that the binary was built from. Release builds from a repository have one, and builds with the
/// variable `FANFARE_COMMIT`.
pub const COMMIT: Option<&str> = match option_env!("FANFARE_COMMIT") {
    Some(commit) if !commit.is_empty() => Some(commit),
    _ => None,
};

/// Realtime channels for very many connections.
#[derive(Parser, Clone, Default, Debug)]
#[command(name = "fanfare", version = VERSION.as_str(), max_term_width = 100)]
pub struct Args {
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// The configuration file (TOML); without one, a development app with random keys is served on loopback
    #[arg(long, short, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// An address to serve on, such as 127.0.0.1:8080; may be repeated
    #[arg(long, global = true, value_name = "ADDR")]
    pub listen: Vec<String>,

    /// The address of metrics and health, or `off`
    #[arg(long, global = true, value_name = "ADDR|off")]
    pub admin_listen: Option<String>,

    /// The number of worker threads, or `auto` for one per core
    #[arg(long, global = true, value_name = "N", allow_negative_numbers = true)]
    pub workers: Option<String>,

    /// Pin each worker to a core of its own
    #[arg(
        long,
        global = true,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub pin: Option<String>,

    /// What to log: off, error, warn, info, debug or trace, also per target (`info,fanfare_server=debug`)
    #[arg(long, global = true, value_name = "LEVEL")]
    pub log: Option<String>,

    /// How to log: text or json
    #[arg(long, global = true, value_name = "FORMAT")]
    pub log_format: Option<String>,

    /// Print the configuration in effect as TOML and exit; secrets are hidden
    #[arg(long)]
    pub print_config: bool,

    /// Print the secrets too
    #[arg(long, requires = "print_config")]
    pub show_secrets: bool,
}

/// The subcommands of `fanfare`.
#[derive(Subcommand, Clone, Eq, PartialEq, Debug)]
pub enum Command {
    /// Read the configuration and say whether it is valid; exits with 2 if it is not
    Check {
        /// Also say what differs from this file, and what of it needs a restart
        #[arg(long, value_name = "FILE")]
        diff: Option<PathBuf>,
    },
    /// Say what this machine gives to connections and what they need; exits with 1 if that is too little
    Doctor {
        /// The number of connections; the default is that of the configuration, or 10000
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=16_777_216))]
        connections: Option<u64>,
        /// Answer with a JSON object
        #[arg(long)]
        json: bool,
    },
    /// Serve a chat room to be opened in two browser windows: on loopback, without configuration
    Demo,
    /// Try out triggers
    #[command(subcommand)]
    Trigger(TriggerCommand),
    /// Print the completions of the command line for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write the manual pages, one for each command
    Man {
        /// The directory
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
}

/// The subcommands of `fanfare trigger`.
#[derive(Subcommand, Clone, Eq, PartialEq, Debug)]
pub enum TriggerCommand {
    /// Run a script once and print its verdict; exits with 0 if the script passes or replaces, 3 if it
    /// refuses, 1 if the run fails, and 2 if the script does not compile
    Run(TrialArgs),
}

/// The script and the input of a trial.
#[derive(clap::Args, Clone, Eq, PartialEq, Debug)]
pub struct TrialArgs {
    /// The script
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// The handler to call
    #[arg(long, value_enum, default_value = "message")]
    pub action: TrialAction,

    /// The channel of the message or the join
    #[arg(long, value_name = "NAME", default_value = "room")]
    pub channel: String,

    /// The event of the message
    #[arg(long, value_name = "NAME", default_value = "message")]
    pub event: String,

    /// The payload of the message, as JSON
    #[arg(long, value_name = "JSON", default_value = "null", allow_hyphen_values = true)]
    pub payload: String,

    /// The user of the client; without one, the client is not signed in
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,

    /// The profile of the client, as JSON
    #[arg(long, value_name = "JSON", allow_hyphen_values = true)]
    pub profile: Option<String>,

    /// The state of the channel before the run, as JSON
    #[arg(long, value_name = "JSON", allow_hyphen_values = true)]
    pub state: Option<String>,
}

/// The handler that a trial calls.
#[derive(clap::ValueEnum, Copy, Clone, Eq, PartialEq, Debug)]
pub enum TrialAction {
    /// The handler `message`.
    Message,
    /// The handler `join`.
    Join,
}

/// What the command line asks for.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Action {
    /// Serve until told to stop.
    Serve,
    /// Serve the demo's app and page until told to stop.
    Demo,
    /// Print one line: the configuration's summary, or its problem.
    Check,
    /// Examine the machine.
    Doctor,
    /// Run a trigger's script once. The script is in [`Args::trial`].
    TryTrigger,
    /// Write what packages have of the command line: [`Args::completions`] or [`Args::manual`].
    Document,
    /// Print the effective configuration.
    PrintConfig(Secrets),
}

/// Whether a printed configuration contains its secrets.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Secrets {
    /// A placeholder stands for each.
    Hidden,
    /// They are printed.
    Shown,
}

impl Args {
    /// The file that a checked configuration is compared with.
    pub fn diff(&self) -> Option<&Path> {
        match &self.command {
            Some(Command::Check { diff }) => diff.as_deref(),
            _ => None,
        }
    }

    /// The script and the input of a trial.
    pub fn trial(&self) -> Option<&TrialArgs> {
        match &self.command {
            Some(Command::Trigger(TriggerCommand::Run(trial))) => Some(trial),
            _ => None,
        }
    }

    /// The completions that were asked for.
    pub fn completions(&self) -> Option<Vec<u8>> {
        let Some(Command::Completions { shell }) = &self.command else { return None };
        let mut text = Vec::new();
        clap_complete::generate(*shell, &mut Args::command(), "fanfare", &mut text);
        Some(text)
    }

    /// The directory for the manual pages that were asked for.
    pub fn manual(&self) -> Option<&Path> {
        match &self.command {
            Some(Command::Man { directory }) => Some(directory),
            _ => None,
        }
    }

    /// The command line with another configuration file.
    pub fn with_config(&self, file: &Path) -> Args {
        Args { config: Some(file.to_path_buf()), ..self.clone() }
    }

    /// What to do with the configuration once it is loaded.
    pub fn action(&self) -> Action {
        match (&self.command, self.print_config, self.show_secrets) {
            (Some(Command::Check { .. }), _, _) => Action::Check,
            (Some(Command::Doctor { .. }), _, _) => Action::Doctor,
            (Some(Command::Demo), _, _) => Action::Demo,
            (Some(Command::Trigger(TriggerCommand::Run(_))), _, _) => Action::TryTrigger,
            (Some(Command::Completions { .. } | Command::Man { .. }), _, _) => Action::Document,
            (None, true, true) => Action::PrintConfig(Secrets::Shown),
            (None, true, false) => Action::PrintConfig(Secrets::Hidden),
            (None, false, _) => Action::Serve,
        }
    }
}

/// Writes the manual pages.
///
/// # Errors
/// A file cannot be written.
pub fn write_manual(directory: &Path) -> io::Result<()> {
    clap_mangen::generate_to(Args::command(), directory)
}

/// Reads the process's command line. Answers `--help` and `--version`, and refuses what it does not know, by
/// exiting.
pub fn parse() -> Args {
    Args::parse()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Args {
        Args::try_parse_from(line.split(' ')).expect("a valid command line")
    }

    #[test]
    fn the_definition_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn flags_may_stand_on_either_side_of_the_subcommand() {
        for line in
            ["fanfare --config f.toml check", "fanfare check --config f.toml", "fanfare check -c f.toml"]
        {
            let args = parsed(line);
            assert_eq!(args.action(), Action::Check);
            assert_eq!(args.config, Some(PathBuf::from("f.toml")));
        }
    }

    #[test]
    fn values_are_kept_as_they_were_typed() {
        let args =
            parsed("fanfare --listen 1.2.3.4:5 --listen nonsense --workers auto --pin --log-format=json");
        assert_eq!(args.listen, ["1.2.3.4:5", "nonsense"]);
        assert_eq!(args.workers.as_deref(), Some("auto"));
        assert_eq!(args.pin.as_deref(), Some("true"));
        assert_eq!(args.log_format.as_deref(), Some("json"));
        assert_eq!(args.action(), Action::Serve);
        assert_eq!(parsed("fanfare --pin=false check").pin.as_deref(), Some("false"));
    }

    #[test]
    fn secrets_are_shown_only_when_asked_for() {
        assert_eq!(parsed("fanfare --print-config").action(), Action::PrintConfig(Secrets::Hidden));
        let shown = parsed("fanfare --print-config --show-secrets");
        assert_eq!(shown.action(), Action::PrintConfig(Secrets::Shown));
        assert!(Args::try_parse_from(["fanfare", "--show-secrets"]).is_err());
    }
}
