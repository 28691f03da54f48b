//! A stand-in for the Service: one address, and any replica behind it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

/// Takes connections for as long as the program runs, and gives each to the next replica that takes it.
pub struct Service {
    port: u16,
    backends: Arc<Mutex<Vec<u16>>>,
    ended: Arc<AtomicBool>,
}

impl Service {
    pub fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let backends = Arc::new(Mutex::new(Vec::new()));
        let ended = Arc::new(AtomicBool::new(false));
        let (known, end) = (Arc::clone(&backends), Arc::clone(&ended));
        thread::spawn(move || {
            let turn = AtomicUsize::new(0);
            for client in listener.incoming() {
                if end.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(client) = client else { continue };
                let ports = known.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let first = turn.fetch_add(1, Ordering::Relaxed);
                let server = (0..ports.len()).find_map(|offset| {
                    let port = ports.get((first + offset) % ports.len())?;
                    TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).ok()
                });
                // Without a replica the connection ends, as it does at a real Service.
                if let Some(server) = server {
                    join(&client, &server);
                }
            }
        });
        Ok(Self {
            port,
            backends,
            ended,
        })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Adds a replica by its port.
    pub fn add(&self, port: u16) {
        self.backends
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(port);
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // So that the listener is looked at a second time.
        let _ = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)));
    }
}

/// Copies both ways until one side ends.
fn join(client: &TcpStream, server: &TcpStream) {
    for (from, to) in [(client, server), (server, client)] {
        let (Ok(mut from), Ok(mut to)) = (from.try_clone(), to.try_clone()) else {
            return;
        };
        thread::spawn(move || {
            // An error is an end, too.
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(std::net::Shutdown::Both);
            let _ = from.shutdown(std::net::Shutdown::Both);
        });
    }
}
