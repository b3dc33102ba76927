//! Installs the clients under `target/interop/<client>`, each once for its pins.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::process;

/// The time one step of a set-up may take; the longest compiles a client and what it needs.
const SETUP_DEADLINE: Duration = Duration::from_secs(600);

/// The time a program may take to say its version.
const PROBE_DEADLINE: Duration = Duration::from_secs(30);

/// One client library and the program that drives it.
pub(crate) struct Client {
    /// The library's name; its program is in `tests/interop/<name>`.
    pub(crate) name: &'static str,
    /// Sets the client up and gives the command that runs it.
    pub(crate) prepare: fn(&Self) -> Result<Command, Failure>,
}

/// Why a client cannot run.
pub(crate) enum Failure {
    /// A program that the machine does not have.
    Missing(String),
    /// A set-up that failed, with its output.
    Setup(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(what) => write!(formatter, "{what}"),
            Self::Setup(what) => write!(
                formatter,
                "the client could not be set up (the first time needs the network): {what}"
            ),
        }
    }
}

impl Client {
    /// Sets the client up unless that is done already; other processes wait meanwhile.
    pub(crate) fn prepare(&self) -> Result<Command, Failure> {
        let directory = self.directory();
        let described = |error| Failure::Setup(format!("{}: {error}", directory.display()));
        fs::create_dir_all(&directory).map_err(described)?;
        let lock = File::create(directory.join("lock")).map_err(described)?;
        lock.lock().map_err(described)?;
        (self.prepare)(self)
    }

    /// Where the output of a step is kept.
    pub(crate) fn log(&self, step: &str) -> PathBuf {
        self.directory().join(format!("{step}.log"))
    }

    /// Where the client is installed.
    fn directory(&self) -> PathBuf {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent();
        target.expect("it is a directory in `target`").join("interop").join(self.name)
    }

    /// A file of the client in the repository.
    fn source(&self, file: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop").join(self.name).join(file)
    }

    /// Runs a program that must be there, and gives its output.
    fn probe(&self, command: &mut Command, what: &str) -> Result<String, Failure> {
        process::run(command, &self.log("probe"), PROBE_DEADLINE)
            .map_err(|_| Failure::Missing(format!("{what} is not installed")))
    }

    /// Runs one step of the set-up.
    fn step(&self, name: &str, command: &mut Command) -> Result<(), Failure> {
        process::run(command, &self.log(name), SETUP_DEADLINE).map(drop).map_err(Failure::Setup)
    }

    /// Runs `install` unless it has succeeded with this interpreter and these pins before.
    fn install_once(
        &self,
        interpreter: &str,
        pins: &str,
        install: impl FnOnce() -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let described = |error| Failure::Setup(format!("{pins}: {error}"));
        let pinned = fs::read_to_string(self.source(pins)).map_err(described)?;
        let wanted = format!("{interpreter}\n{pinned}");
        let stamp = self.directory().join("stamp");
        if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
            return Ok(());
        }
        install()?;
        fs::write(&stamp, wanted).map_err(described)
    }
}

/// A client in Python, in a virtual environment of its own.
pub(crate) fn python(client: &Client) -> Result<Command, Failure> {
    let says_version = "import ensurepip, sys, venv; print(sys.executable, sys.version)";
    let interpreter = client.probe(
        Command::new("python3").args(["-c", says_version]),
        "python3 with its venv module",
    )?;
    let environment = client.directory().join("venv");
    let python = environment.join("bin/python");
    client.install_once(&interpreter, "requirements.txt", || {
        let mut create = Command::new("python3");
        create.args(["-m", "venv", "--clear"]).arg(&environment);
        client.step("venv", &mut create)?;
        let mut install = Command::new(&python);
        install.args(["-m", "pip", "install", "--disable-pip-version-check", "--requirement"]);
        client.step("pip", install.arg(client.source("requirements.txt")))
    })?;
    let mut command = Command::new(python);
    command.arg(client.source("client.py"));
    Ok(command)
}

/// A client for Node.js, with the modules of its lock file.
pub(crate) fn node(client: &Client) -> Result<Command, Failure> {
    let interpreter = client.probe(Command::new("node").arg("--version"), "node")?;
    client.probe(Command::new("npm").arg("--version"), "npm")?;
    let directory = client.directory();
    client.install_once(&interpreter, "package-lock.json", || {
        for file in ["package.json", "package-lock.json"] {
            fs::copy(client.source(file), directory.join(file))
                .map_err(|error| Failure::Setup(format!("{file}: {error}")))?;
        }
        let mut install = Command::new("npm");
        install.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
        client.step("npm", install.current_dir(&directory))
    })?;
    let mut command = Command::new("node");
    command.arg(client.source("client.js")).env("NODE_PATH", directory.join("node_modules"));
    Ok(command)
}

/// A client in Go; `go build` itself knows what is up to date.
pub(crate) fn go(client: &Client) -> Result<Command, Failure> {
    client.probe(Command::new("go").arg("version"), "go")?;
    let program = client.directory().join("client");
    let mut build = Command::new("go");
    build.args(["build", "-mod=readonly", "-buildvcs=false", "-o"]).arg(&program).arg(".");
    build.env("GOWORK", "off").current_dir(client.source(""));
    client.step("build", &mut build)?;
    Ok(Command::new(program))
}

/// A client in Rust; `cargo build` itself knows what is up to date.
pub(crate) fn cargo(client: &Client) -> Result<Command, Failure> {
    let target = client.directory().join("target");
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--locked", "--manifest-path"]).arg(client.source("Cargo.toml"));
    client.step("build", build.arg("--target-dir").arg(&target))?;
    Ok(Command::new(target.join("debug").join(format!("interop-{}", client.name))))
}
