//! The plugins folder serves what is written to it.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use host_workspace::{Logic, MountError, Mounted, RowCounts};
use parking_lot::Mutex;
use tempfile::TempDir;

use super::guest::Guest;
use crate::{
    Allocation, Compile, Limits, Mounts, PluginState, PluginStatus, Plugins, PluginsConfig,
};

/// A stand-in for a server's workspaces, which records what happens to each.
#[derive(Clone, Default)]
struct Mounting {
    serving: Arc<Mutex<BTreeMap<String, Arc<dyn Logic>>>>,
    history: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl Mounts for Mounting {
    async fn mount(&self, logic: Arc<dyn Logic>) -> Result<Mounted, MountError> {
        let id = logic.definition().id.clone();
        if id == "unmountable" {
            return Err(MountError::Document("the disk is full".into()));
        }
        let replaced = self.serving.lock().insert(id.clone(), logic).is_some();
        self.history.lock().push(format!("+{id}"));
        Ok(Mounted { rows: 3, invalid: 0, replaced })
    }

    async fn unmount(&self, workspace: &str) -> bool {
        self.history.lock().push(format!("-{workspace}"));
        self.serving.lock().remove(workspace).is_some()
    }

    fn rows(&self, workspace: &str) -> Option<RowCounts> {
        self.serving.lock().contains_key(workspace).then_some(RowCounts { rows: 4, invalid: 1 })
    }
}

struct Server {
    dir: TempDir,
    mounts: Mounting,
    plugins: Plugins,
}

impl Server {
    async fn start(files: &[(&str, Vec<u8>)]) -> Self {
        let dir = TempDir::new().unwrap();
        fs::create_dir(dir.path().join("plugins")).unwrap();
        for (file, bytes) in files {
            fs::write(dir.path().join("plugins").join(file), bytes).unwrap();
        }
        Self::start_in(dir).await
    }

    async fn start_in(dir: TempDir) -> Self {
        let (mounts, plugins) = open(&dir, Compile::Twice).await;
        Self { dir, mounts, plugins }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join("plugins").join(file)
    }

    fn write(&self, file: &str, bytes: &[u8]) {
        fs::write(self.path(file), bytes).unwrap();
    }

    fn status(&self, file: &str) -> Option<PluginStatus> {
        self.plugins.status().into_iter().find(|status| status.file == file)
    }

    fn serving(&self) -> Vec<String> {
        self.mounts.serving.lock().keys().cloned().collect()
    }

    fn tables(&self, workspace: &str) -> Vec<String> {
        let serving = self.mounts.serving.lock();
        let definition = serving[workspace].definition().clone();
        definition.tables.iter().map(|table| table.name.clone()).collect()
    }

    fn error(&self, file: &str) -> String {
        self.status(file).and_then(|status| status.error).unwrap_or_default()
    }

    /// Waits for what the watching brings about. How long it took.
    async fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) -> Duration {
        let started = Instant::now();
        while !condition(self) {
            if started.elapsed() > Duration::from_secs(10) {
                panic!(
                    "never: {what}; {:#?} {:?}",
                    self.plugins.status(),
                    self.mounts.history.lock()
                );
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        started.elapsed()
    }

    async fn stop(self) -> TempDir {
        self.plugins.shutdown().await;
        self.dir
    }
}

async fn open(dir: &TempDir, compile: Compile) -> (Mounting, Plugins) {
    let config = PluginsConfig {
        allocation: Allocation::OnDemand,
        compile,
        ..PluginsConfig::new(dir.path().join("plugins"), dir.path().join("cache"))
    };
    let mounts = Mounting::default();
    let plugins = Plugins::open(config, mounts.clone()).await.unwrap();
    (mounts, plugins)
}

fn guest(id: &'static str, tables: &'static [&'static str]) -> Vec<u8> {
    Guest { id, tables, ..Guest::default() }.module()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lies_in_the_folder_is_served_and_what_is_broken_is_said() {
    let server = Server::start(&[
        ("blog.wasm", guest("blog", &["posts"])),
        ("broken.wasm", b"\0asm".to_vec()),
        ("unmountable.wasm", guest("unmountable", &[])),
        ("readme.txt", b"hello".to_vec()),
        (".blog.wasm", guest("hidden", &[])),
    ])
    .await;
    assert_eq!(server.serving(), ["blog"]);
    let status = server.plugins.status();
    let names: Vec<_> = status.iter().map(|status| &*status.file).collect();
    assert_eq!(names, ["blog.wasm", "broken.wasm", "unmountable.wasm"]);
    assert_eq!(status[0].state, PluginState::Serving);
    assert_eq!(
        (status[0].rows, status[0].invalid, status[0].from_cache),
        (Some(4), Some(1), Some(false))
    );
    assert_eq!(status[0].version.as_deref(), Some("1.2.3"));
    assert_eq!(status[1].state, PluginState::Failed);
    assert!(server.error("broken.wasm").contains("cut short"));
    assert!(server.error("unmountable.wasm").contains("the disk is full"));
    let json = serde_json::to_value(&status[0]).unwrap();
    assert_eq!(json["state"], "serving");
    assert!(json["loadedAt"].is_u64() && json["tookMs"].is_u64() && json["stale"] == false);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn adding_writing_over_and_removing_a_file_takes_effect() {
    let server = Server::start(&[]).await;
    server.write("blog.wasm", &guest("blog", &["posts"]));
    let took = server.until("served", |server| server.serving() == ["blog"]).await;
    assert!(took < Duration::from_millis(1500), "{took:?}");

    server.write("blog.wasm", &guest("blog", &["posts", "authors"]));
    server.until("reloaded", |server| server.tables("blog") == ["posts", "authors"]).await;

    let temporary = server.path("blog.wasm.tmp");
    fs::write(&temporary, guest("blog", &["pages"])).unwrap();
    fs::rename(&temporary, server.path("blog.wasm")).unwrap();
    server.until("renamed into place", |server| server.tables("blog") == ["pages"]).await;

    fs::remove_file(server.path("blog.wasm")).unwrap();
    server.until("unmounted", |server| server.serving().is_empty()).await;
    server.until("forgotten", |server| server.plugins.status().is_empty()).await;
    assert_eq!(*server.mounts.history.lock(), ["+blog", "+blog", "+blog", "-blog"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_version_leaves_the_one_before_serving() {
    let good = guest("blog", &["posts"]);
    let server = Server::start(&[("blog.wasm", good.clone())]).await;
    server.write("blog.wasm", &good[..good.len() / 2]);
    server.until("told", |server| !server.error("blog.wasm").is_empty()).await;
    let status = server.status("blog.wasm").unwrap();
    assert_eq!((status.state, status.stale), (PluginState::Serving, true));
    assert!(status.error.unwrap().contains("cut short"));
    assert_eq!(server.serving(), ["blog"]);

    // The bytes equal those that are served, so there is nothing to load and no error any more.
    server.write("blog.wasm", &good);
    server.until("mended", |server| server.error("blog.wasm").is_empty()).await;
    assert_eq!(*server.mounts.history.lock(), ["+blog"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_written_slowly_is_loaded_when_it_is_whole() {
    use std::io::Write;
    let server = Server::start(&[("blog.wasm", guest("blog", &["posts"]))]).await;
    let new = guest("blog", &["posts", "authors"]);
    let mut file = fs::File::create(server.path("blog.wasm")).unwrap();
    for part in new.chunks(new.len() / 10) {
        file.write_all(part).unwrap();
        tokio::time::sleep(Duration::from_millis(15)).await;
        assert_eq!(server.error("blog.wasm"), "");
    }
    drop(file);
    server.until("reloaded", |server| server.tables("blog").len() == 2).await;
    assert_eq!(server.error("blog.wasm"), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_removed_and_created_again_is_never_unmounted() {
    let server = Server::start(&[("blog.wasm", guest("blog", &["posts"]))]).await;
    fs::remove_file(server.path("blog.wasm")).unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    server.write("blog.wasm", &guest("blog", &["pages"]));
    server.until("reloaded", |server| server.tables("blog") == ["pages"]).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(*server.mounts.history.lock(), ["+blog", "+blog"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renamed_file_serves_its_workspace_without_a_gap() {
    let server = Server::start(&[("blog.wasm", guest("blog", &["posts"]))]).await;
    fs::rename(server.path("blog.wasm"), server.path("weblog.wasm")).unwrap();
    server
        .until("taken over", |server| {
            server.status("weblog.wasm").is_some_and(|status| status.state == PluginState::Serving)
        })
        .await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(server.status("blog.wasm").is_none());
    assert_eq!(*server.mounts.history.lock(), ["+blog", "+blog"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_of_two_files_for_one_workspace_waits_for_the_first() {
    let server = Server::start(&[
        ("a.wasm", guest("blog", &["posts"])),
        ("b.wasm", guest("blog", &["pages"])),
    ])
    .await;
    assert_eq!(server.tables("blog"), ["posts"]);
    let error = server.error("b.wasm");
    assert!(error.contains("the workspace blog, which a.wasm defines already"), "{error}");

    fs::remove_file(server.path("a.wasm")).unwrap();
    server
        .until("the second serves", |server| {
            server.serving() == ["blog"] && server.tables("blog") == ["pages"]
        })
        .await;
    server.until("its error is gone", |server| server.error("b.wasm").is_empty()).await;
}

/// A guest whose `define` takes a while.
fn slow(id: &'static str, tables: &'static [&'static str]) -> Vec<u8> {
    let on_define = "(global.set $calls (i32.const 0))
        (loop $wait
          (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
          (br_if $wait (i32.lt_u (global.get $calls) (i32.const 200000000))))";
    Guest { id, tables, on_define, ..Guest::default() }.module()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_start_nobody_waits_for_a_plugin_that_is_slow() {
    let dir = TempDir::new().unwrap();
    let folder = dir.path().join("plugins");
    fs::create_dir(&folder).unwrap();
    let spins = Guest { id: "spins", on_define: "(loop $spin (br $spin))", ..Guest::default() };
    fs::write(folder.join("a.wasm"), spins.module()).unwrap();
    fs::write(folder.join("blog.wasm"), guest("blog", &["posts"])).unwrap();
    let define = Duration::from_secs(4);
    let config = PluginsConfig {
        allocation: Allocation::OnDemand,
        limits: Limits { define, ..Limits::default() },
        ..PluginsConfig::new(folder, dir.path().join("cache"))
    };
    let mounts = Mounting::default();
    let opening = tokio::spawn(Plugins::open(config, mounts.clone()));
    let started = Instant::now();
    while mounts.serving.lock().is_empty() {
        assert!(started.elapsed() < define, "the blog waits for the one that spins");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!opening.is_finished(), "and the start for both");
    let status = opening.await.unwrap().unwrap().status();
    assert!(status[0].error.as_deref().unwrap_or_default().contains("define took longer"));
    let took = status[1].took_ms.unwrap();
    assert!(u128::from(took) < define.as_millis(), "{took} ms is not its own time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_start_the_first_by_name_gets_a_workspace_that_another_defines_sooner() {
    let server = Server::start(&[
        ("a.wasm", slow("blog", &["posts"])),
        ("b.wasm", guest("blog", &["pages"])),
        ("c.wasm", guest("blog", &["notes"])),
    ])
    .await;
    assert_eq!(server.tables("blog"), ["posts"]);
    let history = server.mounts.history.lock().clone();
    assert!(history.len() > 1 && history.len() % 2 == 1, "one came sooner: {history:?}");
    for later in ["b.wasm", "c.wasm"] {
        let error = server.error(later);
        assert!(error.contains("the workspace blog, which a.wasm defines already"), "{error}");
        assert_eq!(server.status(later).unwrap().state, PluginState::Failed);
    }
    // What was set aside at the start is forgotten by nobody.
    fs::remove_file(server.path("a.wasm")).unwrap();
    server
        .until("another serves", |server| {
            server.serving() == ["blog"] && server.tables("blog") != ["posts"]
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_newer_version_is_loaded_that_is_shown_beside_the_one_that_serves() {
    let server = Server::start(&[("blog.wasm", guest("blog", &["posts"]))]).await;
    assert!(!server.status("blog.wasm").unwrap().loading);
    server.write("blog.wasm", &slow("blog", &["pages"]));
    server.until("it is loading", |server| server.status("blog.wasm").unwrap().loading).await;
    let status = server.status("blog.wasm").unwrap();
    assert_eq!((status.state, status.stale), (PluginState::Serving, false));
    server.until("it is loaded", |server| server.tables("blog") == ["pages"]).await;
    server.until("that is over", |server| !server.status("blog.wasm").unwrap().loading).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_changes_its_workspace_gives_up_the_old_one() {
    let server = Server::start(&[("a.wasm", guest("blog", &[]))]).await;
    server.write("a.wasm", &guest("weblog", &[]));
    server.until("moved", |server| server.serving() == ["weblog"]).await;
    assert_eq!(*server.mounts.history.lock(), ["+blog", "+weblog", "-blog"]);
    server.write("b.wasm", &guest("blog", &[]));
    server.until("free again", |server| server.serving() == ["blog", "weblog"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_quick_versions_end_with_the_last() {
    let server = Server::start(&[("a.wasm", guest("blog", &["posts"]))]).await;
    let versions = [guest("blog", &["one"]), guest("blog", &["two"]), b"broken".to_vec()];
    for i in 0..30 {
        server.write("a.wasm", &versions[i % 3]);
        tokio::time::sleep(Duration::from_millis(u64::try_from(i % 7).unwrap() * 10)).await;
        assert_eq!(server.serving(), ["blog"]);
    }
    server.write("a.wasm", &guest("blog", &["last"]));
    server.until("the last", |server| server.tables("blog") == ["last"]).await;
    server.until("no error", |server| server.error("a.wasm").is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_start_compiles_nothing_and_trusts_no_foreign_cache_file() {
    let dir = Server::start(&[("blog.wasm", guest("blog", &["posts"]))]).await.stop().await;
    for from_cache in [false, true] {
        let server = reopen(&dir).await;
        assert_eq!(server.status("blog.wasm").unwrap().from_cache, Some(from_cache));
        server.stop().await;
    }

    let cached = || {
        let files = fs::read_dir(dir.path().join("cache")).unwrap();
        let mut files = files.map(|file| file.unwrap().path());
        files.find(|path| path.extension().is_some_and(|ext| ext == "compiled")).unwrap()
    };
    let good = fs::read(cached()).unwrap();
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let mut forged = good.clone();
    forged[..32].fill(0);
    for bad in [flipped, forged, good[..good.len() / 2].to_vec(), vec![]] {
        fs::write(cached(), bad).unwrap();
        let server = reopen(&dir).await;
        assert_eq!(server.status("blog.wasm").unwrap().from_cache, Some(false));
        assert_eq!(server.serving(), ["blog"]);
        server.stop().await;
        assert!(fs::read(cached()).unwrap().len() > 1000, "written anew");
    }
    // A file that was made with another key is as foreign as any.
    fs::remove_file(dir.path().join("cache/key")).unwrap();
    let server = reopen(&dir).await;
    assert_eq!(server.status("blog.wasm").unwrap().from_cache, Some(false));
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(dir.path().join("cache/key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_served_in_haste_is_optimised_while_it_serves() {
    let server = Server::start(&[("blog.wasm", guest("blog", &["posts"]))]).await;
    let status = server.status("blog.wasm").unwrap();
    assert_eq!((status.from_cache, status.optimised), (Some(false), Some(false)));
    let parse = async || {
        let logic = server.mounts.serving.lock()["blog"].clone();
        logic.parse_rows("posts", vec!["{}".into()], "").await
    };
    assert!(parse().await.is_ok());
    // Saved again before it was optimised: only the new version is worth the work.
    server.write("blog.wasm", &guest("blog", &["posts", "notes"]));
    server.until("the new version", |server| server.tables("blog").len() == 2).await;
    let optimised = |server: &Server| server.status("blog.wasm").unwrap().optimised;
    server.until("it is optimised", |server| optimised(server) == Some(true)).await;
    assert_eq!(server.tables("blog").len(), 2);
    assert!(parse().await.is_ok());
    let dir = server.stop().await;
    let kept = fs::read_dir(dir.path().join("cache")).unwrap();
    assert_eq!(kept.filter(|file| file.as_ref().unwrap().path().extension().is_some()).count(), 1);
    let server = Server::start_in(dir).await;
    let status = server.status("blog.wasm").unwrap();
    assert_eq!((status.from_cache, status.optimised), (Some(true), Some(true)));
}

async fn reopen(dir: &TempDir) -> Server {
    let (mounts, plugins) = open(dir, Compile::Once).await;
    Server { dir: TempDir::new().unwrap(), mounts, plugins }
}
