//! A small web server to deploy: it answers with what the task that it runs in is.
//!
//! `GET /` gives text, or JSON to a client that accepts `application/json`. It writes one line for
//! each request to stdout and ends with 0 on SIGTERM, as process 1 too.

#![forbid(unsafe_code)]

mod http;
mod metadata;

use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use http::{Request, Response};
use metadata::TaskInfo;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

const DEFAULT_PORT: u16 = 8080;
const CONNECTIONS_MAX: usize = 64;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "hello: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    // Before anything else: process 1 has no default action for SIGTERM.
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            log(&format!("got signal {signal}, leaving"));
            std::process::exit(0);
        }
    });

    let port = match std::env::var("PORT") {
        Ok(text) => {
            text.parse().map_err(|_| io::Error::other(format!("PORT is {text:?}, which is no port")))?
        }
        Err(_) => DEFAULT_PORT,
    };
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))
        .map_err(|error| io::Error::other(format!("cannot listen on port {port}: {error}")))?;
    log(&format!("listening on {}", listener.local_addr()?));

    let connections = Arc::new(AtomicUsize::new(0));
    loop {
        // A client that is gone before it is accepted is no reason to end.
        let Ok((stream, _)) = listener.accept() else {
            continue;
        };
        if connections.load(Ordering::Relaxed) >= CONNECTIONS_MAX {
            continue;
        }
        connections.fetch_add(1, Ordering::Relaxed);
        let open = Arc::clone(&connections);
        thread::spawn(move || {
            serve(&stream);
            open.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

fn serve(stream: &TcpStream) {
    let client = stream.peer_addr().map(|address| address.ip().to_string()).unwrap_or_default();
    let (line, response) = match Request::read(stream) {
        Ok(request) => (format!("{} {}", request.method, request.path), respond(&request, stream)),
        Err(http::ReadError::Malformed) => ("-".to_owned(), Response::text(400, "bad request\n")),
        Err(http::ReadError::Closed) => return,
    };
    log(&format!("{client} {line} {}", response.status));
    let _ = response.write(stream);
}

fn respond(request: &Request, stream: &TcpStream) -> Response {
    if request.path != "/" {
        return Response::text(404, "not found\n");
    }
    if request.method != "GET" {
        return Response::text(405, "only GET\n");
    }
    let address = stream.local_addr().map(|address| address.ip().to_string()).unwrap_or_default();
    let info = TaskInfo::of_this_task(&address);
    if request.accepts_json { Response::json(&info.to_json()) } else { Response::text(200, &info.to_text()) }
}

fn log(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}
