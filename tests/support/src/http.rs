use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::error::Error;
use crate::loopback;

const TIMEOUT: Duration = Duration::from_secs(10);

/// The body of a plain HTTP answer; a status other than 200 and 201 is an error.
pub(crate) fn get(address: SocketAddr, path: &str) -> Result<String, Error> {
    call(address, "GET", path, "")
}

/// The body of the answer to a plain HTTP POST of JSON to a server on loopback; a status other than 200 is an error.
pub(crate) fn post(port: u16, path: &str, json: &str) -> Result<String, Error> {
    call(loopback::at(port), "POST", path, json)
}

fn call(address: SocketAddr, method: &str, path: &str, body: &str) -> Result<String, Error> {
    exchange(address, method, path, body).map_err(Error::io(format!("{method} http://{address}{path}")))
}

fn exchange(address: SocketAddr, method: &str, path: &str, body: &str) -> io::Result<String> {
    say(connect(address)?, address, method, path, body)
}

/// A connection on which nobody waits for long.
pub(crate) fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

/// One request and its answer, on a connection of its own.
pub(crate) fn say(
    mut stream: impl Read + Write,
    address: SocketAddr,
    method: &str,
    path: &str,
    body: &str,
) -> io::Result<String> {
    // Since version 1.1, a server may send a body in chunks.
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if matches!(head.split(' ').nth(1), Some("200" | "201")) => Ok(body.to_owned()),
        _ => Err(io::Error::other(answer)),
    }
}
