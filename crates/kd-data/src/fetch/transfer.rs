//! One file from one address.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ureq::http::{Response, StatusCode, header};
use ureq::{Agent, Body};

use super::Reason;
use crate::DataError;
use crate::checksum::sums;
use crate::manifest::Source;

/// The most bytes of one download: 8 GiB.
const MOST: u64 = 8 << 30;

/// A file, where it comes from and where it goes.
pub(super) struct Transfer<'a> {
    pub url: String,
    pub target: &'a Path,
    pub source: &'a Source,
    pub progress: bool,
}

/// What one request led to.
enum Outcome {
    Done,
    /// What came does not match; it was appended to bytes of an earlier download.
    Spoilt(Reason),
    Failed(Reason),
}

impl Transfer<'_> {
    /// Downloads, verifies and renames. The outer error is the disk's, the inner one the mirror's.
    pub(super) fn run(&self) -> Result<Result<(), Reason>, DataError> {
        match self.attempt()? {
            Outcome::Done => Ok(Ok(())),
            Outcome::Failed(reason) => Ok(Err(reason)),
            // The earlier bytes may be another mirror's or torn: once more from the start.
            Outcome::Spoilt(_) => match self.attempt()? {
                Outcome::Done => Ok(Ok(())),
                Outcome::Spoilt(reason) | Outcome::Failed(reason) => Ok(Err(reason)),
            },
        }
    }

    fn part(&self) -> PathBuf {
        let mut name = self.target.as_os_str().to_owned();
        name.push(".part");
        name.into()
    }

    fn attempt(&self) -> Result<Outcome, DataError> {
        let part = self.part();
        let have = fs::metadata(&part).map_or(0, |metadata| metadata.len());
        let response = match self.request(have) {
            Ok(response) => response,
            Err(error) => return Ok(Outcome::Failed(Reason::Network(error.to_string()))),
        };
        let start = match response.status() {
            StatusCode::OK => 0,
            StatusCode::PARTIAL_CONTENT if range_start(&response) == Some(have) => have,
            StatusCode::RANGE_NOT_SATISFIABLE | StatusCode::PARTIAL_CONTENT if have > 0 => {
                // The part may already be the whole file; if not, it is of no use.
                return self.finish(&part, true);
            }
            status => return Ok(Outcome::Failed(Reason::Status(status.as_u16()))),
        };
        match self.receive(response, &part, start)? {
            Some(reason) => Ok(Outcome::Failed(reason)),
            None => self.finish(&part, start > 0),
        }
    }

    fn request(&self, have: u64) -> Result<Response<Body>, ureq::Error> {
        let agent: Agent = Agent::config_builder()
            // Short: without a network, a program that has `digits` is to go on soon.
            .timeout_resolve(Some(Duration::from_secs(5)))
            .timeout_connect(Some(Duration::from_secs(5)))
            .timeout_recv_response(Some(Duration::from_secs(30)))
            .timeout_recv_body(Some(Duration::from_secs(3600)))
            .http_status_as_error(false)
            .build()
            .into();
        // The file itself is compressed: a second compression would spoil ranges and checksums.
        let request = agent.get(&self.url).header(header::ACCEPT_ENCODING, "identity");
        let request =
            if have > 0 { request.header(header::RANGE, format!("bytes={have}-")) } else { request };
        request.call()
    }

    /// Writes the body to the part file; a broken connection leaves what has come.
    fn receive(
        &self,
        response: Response<Body>,
        part: &Path,
        start: u64,
    ) -> Result<Option<Reason>, DataError> {
        let length = response.body().content_length();
        let bar = self.bar(length.map(|length| length + start), start);
        let mut file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(start == 0)
            .append(start > 0)
            .open(part)
            .map_err(DataError::io("create", part))?;
        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0; 1 << 16];
        let mut total = start;
        let reason = loop {
            let got = match body.read(&mut buffer) {
                Ok(0) if length.is_some_and(|length| total < start + length) => {
                    break Some(Reason::Network(format!("the connection ended after {total} bytes")));
                }
                Ok(0) => break None,
                Ok(got) => got,
                Err(error) => break Some(Reason::Network(error.to_string())),
            };
            total += got as u64;
            if total > MOST {
                break Some(Reason::TooLarge(MOST));
            }
            file.write_all(buffer.get(..got).unwrap_or_default()).map_err(DataError::io("write", part))?;
            bar.set_position(total);
        };
        bar.finish_and_clear();
        file.sync_all().map_err(DataError::io("sync", part))?;
        Ok(reason)
    }

    /// Verifies the part and gives it its name, or removes it.
    fn finish(&self, part: &Path, resumed: bool) -> Result<Outcome, DataError> {
        let file = File::open(part).map_err(DataError::io("read", part))?;
        let sums = sums(file, part, u64::MAX)?;
        match &self.source.published {
            Some(published) if published.of(&sums) != published.digits() => {
                fs::remove_file(part).map_err(DataError::io("remove", part))?;
                let reason = Reason::Checksum {
                    algorithm: published.algorithm(),
                    found: published.of(&sums).into(),
                    expected: published.digits().into(),
                };
                Ok(if resumed { Outcome::Spoilt(reason) } else { Outcome::Failed(reason) })
            }
            _ => {
                fs::rename(part, self.target).map_err(DataError::io("rename", part))?;
                Ok(Outcome::Done)
            }
        }
    }

    fn bar(&self, length: Option<u64>, start: u64) -> ProgressBar {
        if !self.progress {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr());
        let template = "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(self.source.path.clone());
        bar.set_position(start);
        bar
    }
}

/// The first byte that a partial answer holds.
fn range_start(response: &Response<Body>) -> Option<u64> {
    let range = response.headers().get(header::CONTENT_RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}
