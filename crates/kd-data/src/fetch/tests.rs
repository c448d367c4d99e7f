#![allow(clippy::unwrap_used)]

use std::net::TcpListener;
use std::process::Command;

use super::server::{Manner, Server};
use super::*;
use crate::open_manifest;
use crate::testing::{gzip, idx_files, idx_manifest, manifest as tiny, md5, only, tgz};

/// 200,000 bytes in which no two stretches are alike.
fn content() -> Vec<u8> {
    (0..50_000u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes()).collect()
}

/// A dataset of one archive whose checksum is that of `content`.
fn one_file(mirrors: &[String]) -> Manifest {
    let sum = md5(&content());
    tiny(
        1,
        (1, 1),
        &format!(
            "[[forms]]\nname = \"folder\"\nmirrors = {mirrors:?}\n\
         format = {{ kind = \"image-folder\", train = \"train\", test = \"test\" }}\n\
         [[forms.files]]\npath = \"t.tgz\"\npublished = {{ md5 = {sum:?} }}\n"
        ),
    )
}

/// A folder to download to, with what an earlier download may have left.
struct Target(tempfile::TempDir);

impl Target {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("tiny")).unwrap();
        Self(root)
    }

    fn with(name: &str, bytes: &[u8]) -> Self {
        let target = Self::new();
        fs::write(target.path(name), bytes).unwrap();
        target
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join("tiny").join(name)
    }

    fn fetch(&self, servers: &[&Server]) -> Result<Vec<PathBuf>, DataError> {
        let mirrors: Vec<String> = servers.iter().map(|server| server.address()).collect();
        fetch_manifest(&one_file(&mirrors), &only(self.0.path()))
    }

    fn assert_whole(&self) {
        assert_eq!(fs::read(self.path("t.tgz")).unwrap(), content());
        assert!(!self.path("t.tgz.part").exists());
    }
}

fn serve(manner: Manner) -> Server {
    Server::start(manner, &[("t.tgz", content())])
}

#[test]
fn a_download_is_verified_and_gets_its_name() {
    let (server, target) = (serve(Manner::Ranges), Target::new());
    assert_eq!(target.fetch(&[&server]).unwrap(), [target.path("t.tgz")]);
    target.assert_whole();
    assert_eq!(server.requests(), ["t.tgz"]);
}

#[test]
fn what_is_there_is_not_fetched_again_unless_it_is_damaged() {
    let server = serve(Manner::Ranges);
    Target::with("t.tgz", &content()).fetch(&[&server]).unwrap();
    assert!(server.requests().is_empty());
    let damaged = Target::with("t.tgz", b"damaged");
    damaged.fetch(&[&server]).unwrap();
    damaged.assert_whole();
}

#[test]
fn a_partial_file_is_resumed() {
    let (server, target) = (serve(Manner::Ranges), Target::with("t.tgz.part", &content()[..1234]));
    target.fetch(&[&server]).unwrap();
    target.assert_whole();
    assert_eq!(server.requests(), ["t.tgz from 1234"]);
}

#[test]
fn a_server_that_ignores_ranges_starts_the_file_anew() {
    let (server, target) = (serve(Manner::IgnoresRanges), Target::with("t.tgz.part", &content()[..1234]));
    target.fetch(&[&server]).unwrap();
    target.assert_whole();
}

#[test]
fn a_partial_file_of_something_else_is_fetched_anew() {
    let (server, target) = (serve(Manner::Ranges), Target::with("t.tgz.part", b"something else"));
    target.fetch(&[&server]).unwrap();
    target.assert_whole();
    assert_eq!(server.requests(), ["t.tgz from 14", "t.tgz"]);
}

#[test]
fn a_partial_file_that_is_whole_is_taken_as_it_is() {
    let (server, target) = (serve(Manner::Ranges), Target::with("t.tgz.part", &content()));
    target.fetch(&[&server]).unwrap();
    target.assert_whole();
    assert_eq!(server.requests(), ["t.tgz from 200000"]);
}

#[test]
fn a_partial_file_longer_than_the_file_is_fetched_anew() {
    let server = serve(Manner::Ranges);
    let target = Target::with("t.tgz.part", &[content(), vec![0; 9]].concat());
    target.fetch(&[&server]).unwrap();
    target.assert_whole();
    assert_eq!(server.requests(), ["t.tgz from 200009", "t.tgz"]);
}

#[test]
fn a_404_leads_to_the_next_mirror() {
    let (missing, good, target) = (serve(Manner::NotFound), serve(Manner::Ranges), Target::new());
    target.fetch(&[&missing, &good]).unwrap();
    target.assert_whole();
    assert_eq!((missing.requests().len(), good.requests().len()), (1, 1));
}

#[test]
fn a_broken_connection_is_resumed_at_the_next_mirror() {
    let (breaking, good, target) = (serve(Manner::BreaksAfter(70_000)), serve(Manner::Ranges), Target::new());
    target.fetch(&[&breaking, &good]).unwrap();
    target.assert_whole();
    assert_eq!(good.requests(), ["t.tgz from 70000"]);
}

#[test]
fn a_broken_connection_leaves_what_has_come() {
    let (breaking, target) = (serve(Manner::BreaksAfter(70_000)), Target::new());
    let error = target.fetch(&[&breaking]).unwrap_err();
    let DataError::Download { attempts, .. } = &error else { unreachable!("{error}") };
    assert!(attempts[0].is_absence(), "{error}");
    assert_eq!(fs::read(target.path("t.tgz.part")).unwrap(), content()[..70_000]);
    assert!(!target.path("t.tgz").exists());
}

#[test]
fn a_wrong_checksum_leads_to_the_next_mirror_and_leaves_nothing() {
    let wrong = Server::start(Manner::Ranges, &[("t.tgz", b"wrong".to_vec())]);
    let target = Target::new();
    let error = target.fetch(&[&wrong]).unwrap_err();
    let DataError::Download { file, attempts } = &error else { unreachable!("{error}") };
    assert_eq!((file.as_str(), attempts.len()), ("t.tgz", 1));
    let reason = Reason::Checksum { algorithm: "md5", found: md5(b"wrong"), expected: md5(&content()) };
    assert_eq!(attempts[0].reason, reason);
    assert!(!target.path("t.tgz").exists() && !target.path("t.tgz.part").exists());
    assert!(!error.is_missing());
    target.fetch(&[&wrong, &serve(Manner::Ranges)]).unwrap();
    target.assert_whole();
}

#[test]
fn a_dataset_without_mirror_says_where_its_files_belong() {
    let target = Target::new();
    let text = target.fetch(&[]).unwrap_err().to_string();
    assert!(text.contains("no mirror") && text.contains("tiny"), "{text}");
}

#[test]
fn what_is_drawn_needs_no_download_and_what_has_no_place_is_refused() {
    let search = Search { data_dir: None, ..only(Path::new("unused")) };
    assert_eq!(fetch("digits", &search).unwrap(), Vec::<PathBuf>::new());
    assert!(matches!(fetch("mnist", &search), Err(DataError::Setting { key: "data_dir", .. })));
}

/// An address at which nobody answers.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}/", listener.local_addr().unwrap())
}

#[test]
fn open_downloads_what_is_nowhere() {
    let files: Vec<_> = idx_files().into_iter().map(|(name, bytes)| (name, gzip(&bytes, 6))).collect();
    let (server, target) = (Server::start(Manner::Ranges, &files), Target::new());
    let search = Search { download: true, ..only(target.0.path()) };
    let opened = open_manifest(&idx_manifest(&[nobody(), server.address()], false), &search).unwrap();
    assert!(opened.form.matches_published());
    assert_eq!(server.requests().len(), 4);
}

#[test]
fn no_network_is_absence_but_a_wrong_file_is_not() {
    let target = Target::new();
    let search = Search { download: true, ..only(target.0.path()) };
    let error = open_manifest(&idx_manifest(&[nobody()], false), &search).unwrap_err();
    assert!(error.is_missing());
    let text = error.to_string();
    for part in ["train-x.gz, train-y.gz", "tried http://127.0.0.1", "kd data fetch tiny"] {
        assert!(text.contains(part), "{text}");
    }
    let wrong = Server::start(Manner::Ranges, &[("train-x.gz", tgz(&[]))]);
    let error = open_manifest(&idx_manifest(&[wrong.address()], false), &search).unwrap_err();
    assert!(matches!(error, DataError::Download { .. }) && !error.is_missing(), "{error}");
}

#[test]
fn two_threads_download_once() {
    let (server, target) = (serve(Manner::Slow), Target::new());
    std::thread::scope(|scope| {
        for thread in [(); 2].map(|()| scope.spawn(|| target.fetch(&[&server]))) {
            thread.join().unwrap().unwrap();
        }
    });
    target.assert_whole();
    assert_eq!(server.requests(), ["t.tgz"]);
}

#[test]
fn two_processes_download_once() {
    let (server, target) = (serve(Manner::Slow), Target::new());
    let child = || {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "fetch::tests::child_process", "--ignored"])
            .env("KD_TEST_MIRROR", server.address())
            .env("KD_TEST_FOLDER", target.0.path())
            .spawn()
            .unwrap()
    };
    let children = [child(), child()];
    assert!(children.map(|mut child| child.wait().unwrap().success()).iter().all(|ok| *ok));
    target.assert_whole();
    assert_eq!(server.requests(), ["t.tgz"]);
}

#[test]
#[ignore = "run by two_processes_download_once"]
fn child_process() {
    // Absent when somebody runs all ignored tests: then there is nothing to do.
    let (Ok(mirror), Some(folder)) = (std::env::var("KD_TEST_MIRROR"), std::env::var_os("KD_TEST_FOLDER"))
    else {
        return;
    };
    fetch_manifest(&one_file(&[mirror]), &only(Path::new(&folder))).unwrap();
}
