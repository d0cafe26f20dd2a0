//! The settings of a trigger: as they are written, and checked and compiled.

use std::{fmt, path::Path, sync::Arc, time::Duration};

use fanfare_core::trigger::TriggerRule;
use serde::{Deserialize, Serialize};

use super::{
    guard,
    http::{CONNECTIONS, HttpSettings},
    metrics::Numbers,
    state::States,
};

/// The most bytes of a name, a description and a tag, and the most tags of a trigger.
const NAME_BYTES: usize = 64;
const DESCRIPTION_BYTES: usize = 1024;
const TAGS: usize = 16;

/// The most bytes of a channel's pattern: a name and the star.
const PATTERN_BYTES: usize = 257;

/// The most bytes of a script.
pub(crate) const SOURCE_BYTES: usize = 256 << 10;

/// A trigger as the configuration file has it. It may hold a secret, and therefore has no `Debug`.
#[derive(Clone, Default, Eq, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawTrigger {
    pub(crate) name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) active: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tags: Option<Vec<String>>,
    pub(crate) channel: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) actions: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) scope: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) server: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) on_error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory_bytes: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) state_bytes: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) output_bytes: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) secret: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) secret_env: Option<String>,
    /// The value of the variable that `secret_env` names.
    #[serde(skip)]
    pub(crate) secret_value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ca_file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) batch: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) timeout_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) connections: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) keep_alive_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) breaker_failures: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) breaker_ms: Option<i64>,
}

/// The budget of a script's run.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct Budget {
    pub(crate) cpu: Duration,
    pub(crate) memory_bytes: usize,
    /// The most bytes of the state that the script keeps for a channel.
    pub(crate) state_bytes: usize,
    /// The most bytes of a run's decision and messages.
    pub(crate) output_bytes: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            cpu: Duration::from_millis(20),
            memory_bytes: 16 << 20,
            state_bytes: 16 << 10,
            output_bytes: 256 << 10,
        }
    }
}

/// What happens to a message or a join whose trigger fails.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum OnError {
    Refuse,
    Pass,
}

/// A trigger that is ready to run. A change of the settings makes a new one.
pub(crate) struct Spec {
    pub(crate) raw: RawTrigger,
    pub(crate) rule: TriggerRule,
    pub(crate) work: Work,
    pub(crate) on_error: OnError,
    pub(crate) numbers: Arc<Numbers>,
}

/// The work of a run.
#[derive(Clone)]
pub(crate) enum Work {
    Script(Script),
    Http(Arc<HttpSettings>),
    /// Every run fails, for this reason.
    Broken(Box<str>),
}

/// A script, the budget of its runs, and the states that it keeps.
#[derive(Clone)]
pub(crate) struct Script {
    pub(crate) source: Arc<str>,
    pub(crate) budget: Budget,
    /// The states by channel. A change of the settings keeps the states.
    pub(crate) states: Arc<States>,
}

impl fmt::Debug for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spec").field("name", &self.rule.name).finish_non_exhaustive()
    }
}

/// An error in a trigger's settings.
#[derive(Clone, Debug)]
pub(crate) struct Wrong {
    /// The setting; empty if the error is about the trigger as a whole.
    pub(crate) key: &'static str,
    pub(crate) problem: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key {
            "" => f.write_str(&self.problem),
            key => write!(f, "`{key}` {}", self.problem),
        }
    }
}

pub(super) fn wrong<T>(key: &'static str, problem: impl fmt::Display) -> Result<T, Wrong> {
    Err(Wrong { key, problem: problem.to_string() })
}

impl Spec {
    /// A trigger that fails whatever a client does.
    pub(crate) fn closed(why: &str) -> Self {
        let rule = TriggerRule {
            name: "*".into(),
            active: true,
            channel: "*".into(),
            on_message: true,
            on_join: true,
            in_channels: true,
            on_broadcasts: true,
            on_direct: true,
            server: false,
        };
        let (work, numbers) = (Work::Broken(why.into()), Arc::default());
        Self { raw: RawTrigger::default(), rule, work, on_error: OnError::Refuse, numbers }
    }

    /// The trigger with the states and counts of `before`.
    pub(crate) fn after(&self, before: &Self) -> Self {
        let work = match (&self.work, &before.work) {
            (Work::Script(script), Work::Script(before)) => {
                Work::Script(Script { states: before.states.clone(), ..script.clone() })
            }
            (work, _) => work.clone(),
        };
        let (raw, rule, numbers) = (self.raw.clone(), self.rule.clone(), before.numbers.clone());
        Self { raw, rule, work, on_error: self.on_error, numbers }
    }
}

impl RawTrigger {
    /// The trigger with the contents of its files in the place of the files' names. A relative name is looked
    /// up in `base`.
    pub(crate) fn with_file(&self, base: Option<&Path>) -> Result<Self, Wrong> {
        let (source, ca) = (
            content(base, ("file", &self.file), ("source", &self.source))?,
            content(base, ("ca_file", &self.ca_file), ("ca", &self.ca))?,
        );
        Ok(Self { file: None, source, ca_file: None, ca, ..self.clone() })
    }

    /// Checks the settings and compiles the script. `before` is the earlier trigger of the same name, whose
    /// state and counts are kept.
    pub(crate) fn check(self, before: Option<&Spec>) -> Result<Spec, Wrong> {
        let rule = self.rule()?;
        let on_error = self.on_error()?;
        let work = match (&self.source, &self.url) {
            (Some(source), None) => Work::Script(self.script(source, before)?),
            (None, Some(url)) => Work::Http(Arc::new(self.http(url)?)),
            (Some(_), Some(_)) => return wrong("url", "stands beside a script: keep one of them"),
            (None, None) => {
                return wrong("", "has no script and no back end: give `file`, `source` or `url`");
            }
        };
        let numbers = before.map_or_else(Arc::default, |before| before.numbers.clone());
        Ok(Spec { raw: self, rule, work, on_error, numbers })
    }

    fn http(&self, url: &str) -> Result<HttpSettings, Wrong> {
        let of_scripts = [
            ("cpu_ms", self.cpu_ms.is_some()),
            ("memory_bytes", self.memory_bytes.is_some()),
            ("state_bytes", self.state_bytes.is_some()),
        ];
        if let Some((key, _)) = of_scripts.into_iter().find(|(_, is_given)| *is_given) {
            return wrong(key, "is for scripts, and stands beside `url`");
        }
        let secret = match (&self.secret, &self.secret_env) {
            (Some(secret), None) => secret,
            (None, Some(_)) => match &self.secret_value {
                Some(secret) => secret,
                None => return wrong("secret_env", "is for the configuration file"),
            },
            (Some(_), Some(_)) => return wrong("secret_env", "stands beside `secret`: keep one of them"),
            (None, None) => return wrong("secret", "is missing: requests are signed with it"),
        };
        HttpSettings::new(self, url, secret)
    }

    /// The trigger with a run that always fails, because the settings of its run are wrong.
    ///
    /// # Errors
    /// The settings that say when the trigger runs are wrong too.
    pub(crate) fn broken(self, why: &Wrong) -> Result<Spec, Wrong> {
        let (rule, on_error) = (self.rule()?, self.on_error()?);
        let work = Work::Broken(why.to_string().into());
        Ok(Spec { raw: self, rule, work, on_error, numbers: Arc::default() })
    }

    /// Checks that the settings raise no budget. Only the configuration may do so.
    pub(crate) fn check_modest(&self) -> Result<(), Wrong> {
        let (budget, default) = (self.budget()?, Budget::default());
        let raised = [
            ("cpu_ms", budget.cpu > default.cpu, default.cpu.as_millis() as usize),
            ("memory_bytes", budget.memory_bytes > default.memory_bytes, default.memory_bytes),
            ("state_bytes", budget.state_bytes > default.state_bytes, default.state_bytes),
            ("output_bytes", budget.output_bytes > default.output_bytes, default.output_bytes),
            ("connections", self.connections.is_some_and(|most| most > CONNECTIONS as i64), CONNECTIONS),
        ];
        match raised.into_iter().find(|(_, is_raised, _)| *is_raised) {
            Some((key, _, most)) => {
                wrong(key, format_args!("must be at most {most}: only the configuration may give more"))
            }
            None => Ok(()),
        }
    }

    fn on_error(&self) -> Result<OnError, Wrong> {
        match self.on_error.as_deref() {
            None | Some("refuse") => Ok(OnError::Refuse),
            Some("pass") => Ok(OnError::Pass),
            Some(other) => wrong("on_error", format_args!("is `{other}`: it must be refuse or pass")),
        }
    }

    fn script(&self, source: &str, before: Option<&Spec>) -> Result<Script, Wrong> {
        let of_requests = [
            ("secret", self.secret.is_some() || self.secret_env.is_some()),
            ("ca", self.ca.is_some()),
            ("batch", self.batch.is_some()),
            ("timeout_ms", self.timeout_ms.is_some()),
            ("connections", self.connections.is_some()),
            ("keep_alive_ms", self.keep_alive_ms.is_some()),
            ("breaker_failures", self.breaker_failures.is_some()),
            ("breaker_ms", self.breaker_ms.is_some()),
        ];
        if let Some((key, _)) = of_requests.into_iter().find(|(_, is_given)| *is_given) {
            return wrong(key, "is for triggers with a `url`, and stands beside a script");
        }
        let budget = self.budget()?;
        if source.len() > SOURCE_BYTES {
            return wrong("source", format_args!("must not be longer than {SOURCE_BYTES} bytes"));
        }
        if let Err(problem) = guard::compile(source, budget) {
            return wrong("source", problem);
        }
        let states = match before.map(|before| &before.work) {
            Some(Work::Script(script)) => script.states.clone(),
            Some(Work::Http(_) | Work::Broken(_)) | None => Arc::default(),
        };
        Ok(Script { source: source.into(), budget, states })
    }

    fn rule(&self) -> Result<TriggerRule, Wrong> {
        let is_name = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
        if !(1..=NAME_BYTES).contains(&self.name.len()) || !self.name.bytes().all(is_name) {
            let problem = format_args!("must be 1 to {NAME_BYTES} letters, digits, `.`, `_` and `-`");
            return wrong("name", problem);
        }
        if self.description.as_ref().is_some_and(|text| text.len() > DESCRIPTION_BYTES) {
            return wrong("description", format_args!("must not be longer than {DESCRIPTION_BYTES} bytes"));
        }
        let tags = self.tags.as_deref().unwrap_or_default();
        if tags.len() > TAGS || tags.iter().any(|tag| !(1..=NAME_BYTES).contains(&tag.len())) {
            return wrong("tags", format_args!("must be at most {TAGS}, of 1 to {NAME_BYTES} bytes each"));
        }
        let pattern = &self.channel;
        if !(1..=PATTERN_BYTES).contains(&pattern.len())
            || pattern.trim_end_matches('*').contains('*')
            || pattern.ends_with("**")
        {
            let problem = "must be a channel's name, or the beginning of one with a `*` behind it";
            return wrong("channel", problem);
        }
        let actions = words("actions", &self.actions, "message", &["message", "join"])?;
        let scope = words("scope", &self.scope, "channel", &["channel", "broadcast", "direct"])?;
        let has = |words: &[&str], word| words.contains(&word);
        Ok(TriggerRule {
            name: self.name.as_str().into(),
            active: self.active.unwrap_or(true),
            channel: pattern.as_str().into(),
            on_message: has(&actions, "message"),
            on_join: has(&actions, "join"),
            in_channels: has(&scope, "channel"),
            on_broadcasts: has(&scope, "broadcast"),
            on_direct: has(&scope, "direct"),
            server: self.server.unwrap_or(false),
        })
    }

    fn budget(&self) -> Result<Budget, Wrong> {
        let default = Budget::default();
        let cpu_ms = within("cpu_ms", self.cpu_ms, default.cpu.as_millis() as usize, 1, 1000)?;
        Ok(Budget {
            cpu: Duration::from_millis(cpu_ms as u64),
            memory_bytes: within(
                "memory_bytes",
                self.memory_bytes,
                default.memory_bytes,
                1 << 20,
                256 << 20,
            )?,
            state_bytes: within("state_bytes", self.state_bytes, default.state_bytes, 0, 1 << 20)?,
            output_bytes: within("output_bytes", self.output_bytes, default.output_bytes, 16, 16 << 20)?,
        })
    }
}

/// The content of a file, or the setting that stands for it.
fn content(
    base: Option<&Path>,
    (key, file): (&'static str, &Option<String>),
    (other, text): (&str, &Option<String>),
) -> Result<Option<String>, Wrong> {
    let Some(file) = file else { return Ok(text.clone()) };
    if text.is_some() {
        return wrong(key, format_args!("stands beside `{other}`: keep one of them"));
    }
    let path = base.map_or_else(|| file.into(), |base| base.join(file));
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text)),
        Err(error) => wrong(key, format_args!("is `{}`, which cannot be read: {error}", path.display())),
    }
}

/// The words of a list, each of which is in `known`; `default` if the list is missing.
fn words<'a>(
    key: &'static str,
    list: &'a Option<Vec<String>>,
    default: &'static str,
    known: &[&str],
) -> Result<Vec<&'a str>, Wrong> {
    let Some(list) = list else { return Ok(vec![default]) };
    match list.iter().find(|word| !known.contains(&word.as_str())) {
        Some(other) => wrong(key, format_args!("has `{other}`: known are {}", known.join(", "))),
        None if list.is_empty() => {
            wrong(key, format_args!("must not be empty: known are {}", known.join(", ")))
        }
        None => Ok(list.iter().map(String::as_str).collect()),
    }
}

pub(super) fn within(
    key: &'static str,
    value: Option<i64>,
    default: usize,
    min: usize,
    max: usize,
) -> Result<usize, Wrong> {
    let Some(value) = value else { return Ok(default) };
    match usize::try_from(value) {
        Ok(value) if (min..=max).contains(&value) => Ok(value),
        _ => wrong(key, format_args!("is {value}: it must be a whole number from {min} to {max}")),
    }
}
