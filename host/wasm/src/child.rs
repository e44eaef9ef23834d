//! The compilers, each in a process of its own.
//!
//! Whoever wrote a plugin's file decides what parsers and compilers read, and some of those recurse, allocate or
//! run without end on a file that was made for it, or merely damaged. A stack that overflows and an
//! allocation that fails end a process, and nothing can catch them. So no foreign file is parsed in the
//! server: a child, which is this program again ([`run_if_asked`]), recognises the file, wraps, checks
//! and compiles it, and sends machine code. One child reads one file and ends.
//!
//! **Bounds.** A child holds itself to [`COMPILER_MEMORY`], [`COMPILER_CPU`] and [`COMPILER_STACK`](crate::limits::COMPILER_STACK); the asker
//! waits for [`COMPILER_TIME`]. It gets no environment, so none of the server's secrets, and is out of reach of
//! a Ctrl-C, so that a server that stops in order sees no crash. When the asker is gone or gives
//! up, their socket closes, and the child ends. What it is kept from is taking the server along, not
//! from being taken over: the code that it sends is believed, as code was that was made here.
//!
//! **Time.** To start a process and make its compilers takes as long as to compile a small plugin. So a
//! server keeps one child that is ready ([`Children::prepare`]), and starts the next when that
//! one has answered, when nobody waits.

mod wire;
mod work;

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use rustix::process::Signal;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use self::wire::Answer;
pub(crate) use self::wire::{Compiler, Haste};
use crate::component::Contract;
use crate::limits::{CODE_BYTES, COMPILER_CPU, COMPILER_MEMORY, COMPILER_TIME, LAST_WORDS};
use crate::settings::Compile;

/// Asks a process to be a compiler; says which. Not for people, who have no use for it.
const ASKED: &str = "EPICENTER_COMPILER";

/// What leads this program to [`run_if_asked`], where that is not the first thing that it does.
static ARGUMENTS: OnceLock<&'static [&'static str]> = OnceLock::new();

/// Makes this process a compiler, if that is what it was started for, and then does not return.
///
/// To be called first in `main`, before any thread, by every program that loads components; one that does
/// not cannot compile.
pub fn run_if_asked(contract: &'static Contract) {
    run_if_asked_by(&[], contract);
}

/// The same for a program whose `main` is not ours, such as a test's: with these arguments it comes here,
/// without others having spoken on its standard input.
pub fn run_if_asked_by(arguments: &'static [&'static str], contract: &'static Contract) {
    let Some(asked) = std::env::var_os(ASKED) else {
        ARGUMENTS.get_or_init(|| arguments);
        return;
    };
    let compile = if asked == name(Compile::Once) { Compile::Once } else { Compile::Twice };
    let code = match work::serve(compile, contract) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{error}");
            1
        }
    };
    // Without destructors: nothing is held that the system does not take back.
    std::process::exit(code)
}

fn name(compile: Compile) -> &'static str {
    match compile {
        Compile::Twice => "twice",
        Compile::Once => "once",
    }
}

/// Starts compilers.
pub(crate) struct Children {
    compile: Compile,
    /// Shared with whoever fills it. Locked for assignments, never across an await.
    spare: Arc<Mutex<Spare>>,
}

/// A compiler that waits for a file.
#[derive(Default)]
struct Spare {
    is_wanted: bool,
    process: Option<Process>,
}

impl Children {
    pub(crate) fn new(compile: Compile) -> Self {
        Self { compile, spare: Arc::default() }
    }

    /// Keeps a compiler ready from now on. To be called in a runtime.
    pub(crate) fn prepare(&self) {
        self.spare.lock().is_wanted = true;
        self.refill();
    }

    /// Has a file compiled. The error says what is wrong with the file, or what became of the compiler.
    pub(crate) async fn compile(&self, haste: Haste, file: &[u8]) -> Answer {
        let spare = match haste {
            Haste::Now => self.spare.lock().process.take(),
            // The spare is left to those who wait.
            Haste::Later => None,
        };
        let process = match spare.and_then(Process::alive) {
            Some(spare) => spare,
            None => Process::start(self.compile)
                .map_err(|error| format!("the compiler cannot be started: {error}"))?,
        };
        let answer = process.ask(haste, file).await;
        self.refill();
        answer
    }

    /// Starts a compiler that waits, on a thread that may block, where one is wanted and missing.
    fn refill(&self) {
        let is_missing = |spare: &Spare| spare.is_wanted && spare.process.is_none();
        if !is_missing(&self.spare.lock()) {
            return;
        }
        let (compile, spare) = (self.compile, self.spare.clone());
        tokio::task::spawn_blocking(move || match Process::start(compile) {
            Ok(process) => {
                let mut spare = spare.lock();
                if is_missing(&spare) {
                    spare.process = Some(process);
                }
            }
            Err(error) => tracing::warn!("no compiler can be started ahead: {error}"),
        });
    }
}

/// One compiler. Dropped, it is gone.
struct Process {
    child: Child,
    socket: UnixStream,
    /// What it says on its standard error before it ends.
    said: JoinHandle<String>,
}

impl Process {
    fn start(compile: Compile) -> io::Result<Self> {
        let arguments = ARGUMENTS.get().ok_or_else(|| {
            io::Error::other("this program does not call `run_if_asked` first in its main")
        })?;
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let mut child = Command::new(this_program()?)
            .arg0("epicenter-compiler")
            .args(*arguments)
            .env_clear()
            .env(ASKED, name(compile))
            .envs(ALLOCATOR)
            .process_group(0)
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stderr = child.stderr.take();
        let said = tokio::spawn(async move {
            let mut said = Vec::new();
            if let Some(stderr) = stderr {
                // What was read until then says enough.
                let _ = stderr.take(LAST_WORDS).read_to_end(&mut said).await;
            }
            String::from_utf8_lossy(&said).into_owned()
        });
        Ok(Self { child, socket: UnixStream::from_std(ours)?, said })
    }

    /// The same, unless it has ended while it waited.
    fn alive(mut self) -> Option<Self> {
        matches!(self.child.try_wait(), Ok(None)).then_some(self)
    }

    async fn ask(mut self, haste: Haste, file: &[u8]) -> Answer {
        let talk = async {
            wire::ask(&mut self.socket, haste, file).await?;
            wire::answered(&mut self.socket, CODE_BYTES).await
        };
        let error = match tokio::time::timeout(COMPILER_TIME, talk).await {
            Ok(Ok(answer)) => return answer,
            Ok(Err(error)) => error,
            Err(_) => {
                let minutes = COMPILER_TIME.as_secs() / 60;
                return Err(format!("the compiler took longer than {minutes} minutes"));
            }
        };
        if error.kind() == io::ErrorKind::InvalidData {
            return Err(format!("the compiler answered nonsense; {REMEDY}"));
        }
        // Its end of the socket is closed, so it is ending, if it has not ended.
        let status = self.child.wait().await;
        let status = status.map_err(|error| format!("the compiler was lost: {error}"))?;
        let said = self.said.await.unwrap_or_default();
        tracing::debug!("a compiler ended, {status}: {said}");
        Err(became(status, &said))
    }
}

/// What an author can do about a file on which a compiler ends.
const REMEDY: &str = "copy the file again, or build it with another toolchain";

/// Options of our allocator, which would otherwise claim a gigabyte before it uses any.
const ALLOCATOR: [(&str, &str); 1] = [("MIMALLOC_ARENA_EAGER_COMMIT", "0")];

/// What became of a compiler that ended without an answer, by its last words.
fn became(status: ExitStatus, said: &str) -> String {
    let signal = status.signal().and_then(Signal::from_named_raw);
    // These are Rust's own words.
    if said.contains("has overflowed its stack") {
        return format!("the compiler ran out of stack on it; {REMEDY}");
    }
    if said.contains("memory allocation of") {
        let limit = COMPILER_MEMORY >> 20;
        return format!("the compiler ran out of memory on it (limit {limit} MiB); {REMEDY}");
    }
    match signal {
        Some(Signal::XCPU) => {
            let limit = COMPILER_CPU.as_secs();
            format!("the compiler took more than {limit} s of CPU time on it; {REMEDY}")
        }
        Some(Signal::KILL) => "the compiler was killed, as a system that is short of memory does; \
                               save the file again to try again"
            .into(),
        _ => format!("the compiler crashed on it ({status}); {REMEDY}"),
    }
}

/// The file of this program, also where another one has taken its place since it was started.
fn this_program() -> io::Result<PathBuf> {
    if cfg!(target_os = "linux") { Ok("/proc/self/exe".into()) } else { std::env::current_exe() }
}
