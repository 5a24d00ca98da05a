//! Units for the schedulers of systems: a command of this program that runs every night.

mod quote;

use std::path::Path;

use chrono::{NaiveTime, Timelike};

use crate::error::{Code, Error, Result};
use crate::policy::Policy;
use chronicle_archive::show_text;
use quote::{cron, shell, systemd, xml};

/// What is done with units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceAction {
    /// They are printed.
    Print,
}

impl Policy for ServiceAction {
    const WORDS: &'static [(Self, &'static str, &'static str)] =
        &[(Self::Print, "print", "Print them; nothing is installed")];
}

/// Who starts the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheduler {
    /// systemd.
    Systemd,
    /// launchd.
    Launchd,
    /// cron.
    Cron,
}

impl Policy for Scheduler {
    const WORDS: &'static [(Self, &'static str, &'static str)] = &[
        (Self::Systemd, "systemd", "A service and a timer of the user, for Linux"),
        (Self::Launchd, "launchd", "An agent of the user as a property list, for macOS"),
        (Self::Cron, "cron", "One line of a crontab"),
    ];
}

/// What the command is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NightlyJob {
    /// An archive of a database.
    Archive,
    /// A copy of it into another one.
    Sync,
}

impl NightlyJob {
    /// Its word in the names of units.
    pub fn word(self) -> &'static str {
        match self {
            NightlyJob::Archive => "archive",
            NightlyJob::Sync => "sync",
        }
    }

    fn title(self) -> &'static str {
        match self {
            NightlyJob::Archive => "Archive of Chronicle's database",
            NightlyJob::Sync => "Copy of Chronicle's database into another one",
        }
    }
}

/// What the files and labels of a job are called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitName {
    job: NightlyJob,
    name: String,
}

impl UnitName {
    /// The name of a job with these databases, as [`spelled`](UnitName::spelled) gives them.
    pub fn new(job: NightlyJob, name: String) -> UnitName {
        UnitName { job, name }
    }

    /// A name with the characters alone that every scheduler and every file system takes.
    pub fn spelled(name: &str) -> String {
        const MOST: usize = 60;
        let plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        let spelled: String = name.chars().map(|c| if plain(c) { c } else { '-' }).collect();
        let words = spelled.split(['-']).filter(|word| !word.is_empty());
        let spelled: String = words.collect::<Vec<_>>().join("-").chars().take(MOST).collect();
        let spelled = spelled.trim_matches(['-', '.']);
        if spelled.is_empty() { "database".to_owned() } else { spelled.to_owned() }
    }

    fn unit(&self) -> String {
        format!("chronicle-dump-{}-{}", self.job.word(), self.name)
    }

    fn label(&self) -> String {
        format!("local.chronicle-dump.{}.{}", self.job.word(), self.name)
    }
}

/// A time of the day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeOfDay {
    /// 0 to 23.
    pub hour: u32,
    /// 0 to 59.
    pub minute: u32,
}

impl TimeOfDay {
    /// Reads `HH:MM`.
    ///
    /// # Errors
    /// If the text is anything else.
    pub fn parse(text: &str) -> Result<TimeOfDay> {
        let time = NaiveTime::parse_from_str(text, "%H:%M").map_err(|_| {
            Error::new(Code::Usage, format!("\"{}\" is not a time of the day", show_text(text)))
                .hint("give hours and minutes, such as 02:30")
        })?;
        Ok(TimeOfDay { hour: time.hour(), minute: time.minute() })
    }
}

/// A command that runs every night.
#[derive(Debug, Clone)]
pub struct Nightly<'a> {
    /// What it is for.
    pub job: NightlyJob,
    /// What its units are called.
    pub name: UnitName,
    /// When it starts, in the time of the machine.
    pub at: TimeOfDay,
    /// The program and its arguments.
    pub words: &'a [String],
    /// The home of the user, where launchd writes what the command prints.
    pub home: Option<&'a Path>,
}

/// A text that a scheduler reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceUnit {
    /// The file that it belongs into; None if it is a line of a file that everything shares.
    pub file: Option<String>,
    /// The text.
    pub text: String,
}

impl Nightly<'_> {
    /// What a scheduler needs to run it.
    ///
    /// # Errors
    /// If a word of the command cannot be written there.
    pub fn units(&self, scheduler: Scheduler) -> Result<Vec<ServiceUnit>> {
        if let Some(word) = self.words.iter().find(|word| word.contains(char::is_control)) {
            let what =
                format!("\"{}\" has a control character, which no unit can", show_text(word));
            return Err(Error::new(Code::Usage, what).hint("rename the file"));
        }
        let program = self.words.first().map_or("", String::as_str);
        if scheduler == Scheduler::Systemd && program.contains(['"', '\'', '\\']) {
            let what = "systemd starts no program with a quote or a backslash in its path";
            return Err(Error::new(Code::Usage, what).hint("move this program, or use cron"));
        }
        Ok(match scheduler {
            Scheduler::Systemd => vec![self.systemd_service(), self.systemd_timer()],
            Scheduler::Launchd => vec![self.launchd_agent()],
            Scheduler::Cron => vec![self.cron_line()],
        })
    }

    fn systemd_service(&self) -> ServiceUnit {
        let file = format!("~/.config/systemd/user/{}.service", self.name.unit());
        let text = format!(
            "# {file}\n\
             [Unit]\n\
             Description={}: {}\n\
             \n\
             [Service]\n\
             Type=oneshot\n\
             ExecStart={}\n",
            self.job.title(),
            self.name.name,
            systemd(self.words)
        );
        ServiceUnit { file: Some(file), text }
    }

    fn systemd_timer(&self) -> ServiceUnit {
        let file = format!("~/.config/systemd/user/{}.timer", self.name.unit());
        let TimeOfDay { hour, minute } = self.at;
        // a machine that was off at that time does it when it is on again
        let text = format!(
            "# {file}\n\
             [Unit]\n\
             Description={} every night: {}\n\
             \n\
             [Timer]\n\
             OnCalendar=*-*-* {hour:02}:{minute:02}:00\n\
             Persistent=true\n\
             \n\
             [Install]\n\
             WantedBy=timers.target\n",
            self.job.title(),
            self.name.name
        );
        ServiceUnit { file: Some(file), text }
    }

    fn launchd_agent(&self) -> ServiceUnit {
        let label = self.name.label();
        let file = format!("~/Library/LaunchAgents/{label}.plist");
        let words = self.words.iter().map(|w| format!("        <string>{}</string>\n", xml(w)));
        let log = self.home.map(|home| home.join("Library/Logs").join(format!("{label}.log")));
        let log = log.map_or_else(String::new, |log| {
            let log = xml(&log.display().to_string());
            let entry = |key| format!("    <key>{key}</key>\n    <string>{log}</string>\n");
            entry("StandardOutPath") + &entry("StandardErrorPath")
        });
        let TimeOfDay { hour, minute } = self.at;
        let text = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \
             \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n\
             <!-- {file} -->\n\
             <plist version=\"1.0\">\n\
             <dict>\n    \
                 <key>Label</key>\n    \
                 <string>{label}</string>\n    \
                 <key>ProgramArguments</key>\n    \
                 <array>\n{}    </array>\n    \
                 <key>StartCalendarInterval</key>\n    \
                 <dict>\n        \
                     <key>Hour</key>\n        \
                     <integer>{hour}</integer>\n        \
                     <key>Minute</key>\n        \
                     <integer>{minute}</integer>\n    \
                 </dict>\n\
             {log}\
             </dict>\n\
             </plist>\n",
            words.collect::<String>()
        );
        ServiceUnit { file: Some(file), text }
    }

    fn cron_line(&self) -> ServiceUnit {
        let TimeOfDay { hour, minute } = self.at;
        let text = format!("{minute} {hour} * * * {}\n", cron(&shell(self.words)));
        ServiceUnit { file: None, text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_spelled_as_every_scheduler_takes_it() {
        for (name, expected) in [
            ("chronicle", "chronicle"),
            ("my.data_2-b", "my.data_2-b"),
            ("it's 50% \"of\" <é>; \\x", "it-s-50-of-x"),
            ("a/b", "a-b"),
            ("--", "database"),
            ("..", "database"),
            ("", "database"),
            ("日本", "database"),
        ] {
            assert_eq!(UnitName::spelled(name), expected, "{name}");
            assert_eq!(UnitName::spelled(expected), expected);
        }
        assert_eq!(UnitName::spelled(&"x".repeat(300)).len(), 60);
    }

    #[test]
    fn a_time_of_the_day_has_hours_and_minutes() {
        let time = |hour, minute| Some(TimeOfDay { hour, minute });
        for (text, expected) in [
            ("02:30", time(2, 30)),
            ("0:05", time(0, 5)),
            ("23:59", time(23, 59)),
            ("24:00", None),
            ("12:60", None),
            ("2", None),
            ("02:30:00", None),
            ("2:30 pm", None),
            ("", None),
        ] {
            assert_eq!(TimeOfDay::parse(text).ok(), expected, "{text}");
        }
    }
}
