//! A web server of a few lines on the loopback interface, with the manners and bad manners of mirrors.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How the server treats a path.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// Answers ranges with 206.
    Ranges,
    /// Answers every request with the whole file.
    IgnoresRanges,
    /// Announces the whole file, hangs up after so many bytes of the answer.
    BreaksAfter(usize),
    /// 404.
    NotFound,
    /// Answers ranges, but slowly.
    Slow,
}

/// A running server; the thread ends with the test program.
pub(super) struct Server {
    address: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Serves `files` by name below `/files/`.
    pub(super) fn start(manner: Manner, files: &[(&str, Vec<u8>)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/files/", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let files: HashMap<String, Vec<u8>> =
            files.iter().map(|(name, bytes)| (format!("/files/{name}"), bytes.clone())).collect();
        let (files, log) = (Arc::new(files), requests.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (files, log) = (files.clone(), log.clone());
                std::thread::spawn(move || answer(stream.unwrap(), manner, &files, &log));
            }
        });
        Self { address, requests }
    }

    pub(super) fn address(&self) -> String {
        self.address.clone()
    }

    /// What was asked for: `name`, or `name from <first byte>`.
    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

fn answer(mut stream: TcpStream, manner: Manner, files: &HashMap<String, Vec<u8>>, log: &Mutex<Vec<String>>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let Some(request) = lines.next() else { return };
    let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let path = request.split(' ').nth(1).unwrap().to_string();
    let range = headers.iter().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let start = value.trim().strip_prefix("bytes=")?.strip_suffix('-')?;
        name.eq_ignore_ascii_case("range").then(|| start.parse::<usize>().unwrap())
    });
    let name = path.rsplit('/').next().unwrap();
    log.lock().unwrap().push(range.map_or(name.to_string(), |start| format!("{name} from {start}")));

    let file = files.get(&path).filter(|_| manner != Manner::NotFound);
    let (status, extra, body): (&str, String, &[u8]) = match (file, range) {
        (None, _) => ("404 Not Found", String::new(), b"no such file"),
        (Some(file), Some(start)) if manner != Manner::IgnoresRanges => match file.get(start..) {
            Some(rest) if !rest.is_empty() => {
                let range = format!("Content-Range: bytes {start}-{}/{}\r\n", file.len() - 1, file.len());
                ("206 Partial Content", range, rest)
            }
            _ => ("416 Range Not Satisfiable", format!("Content-Range: bytes */{}\r\n", file.len()), b""),
        },
        (Some(file), _) => ("200 OK", String::new(), file),
    };
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{extra}Connection: close\r\n\r\n", body.len());
    let sent = if let Manner::BreaksAfter(n) = manner { &body[..n.min(body.len())] } else { body };
    if manner == Manner::Slow {
        std::thread::sleep(Duration::from_millis(300));
    }
    // The client may hang up first: that is its affair.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(sent));
}
