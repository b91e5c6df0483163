use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longest a request may take: longer than the agent holds one while there is no leader (7 s), far shorter than a
/// hang of the whole test.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// A plain HTTP/1.1 client for one agent, one connection for each request.
#[derive(Debug, Clone, Copy)]
pub struct Http {
    /// Where the agent's API listens.
    pub address: SocketAddr,
}

/// An answer, as it came.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// Names in lower case, in the order in which they came.
    pub headers: Vec<(String, String)>,
    /// The body, without its transfer encoding.
    pub body: Vec<u8>,
}

impl Reply {
    /// The value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// `X-Consul-Index`.
    ///
    /// # Panics
    /// When it is missing or not a number.
    #[track_caller]
    pub fn index(&self) -> u64 {
        self.header("x-consul-index")
            .unwrap_or_else(|| panic!("no X-Consul-Index in {self:?}"))
            .parse()
            .expect("X-Consul-Index is a number")
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{e} in status {} {:?}", self.status, self.text()))
    }
}

impl Http {
    /// Sends one request and reads its answer.
    ///
    /// # Errors
    /// When there is no connection or no whole answer: then the outcome of a write is unknown.
    pub fn request(&self, method: &str, path: &str, body: &[u8]) -> io::Result<Reply> {
        self.request_within(REQUEST_TIMEOUT, method, path, body)
    }

    /// The same, with another time limit: blocking queries are held open for long.
    ///
    /// # Errors
    /// As [`Http::request`].
    pub fn request_within(
        &self,
        limit: Duration,
        method: &str,
        path: &str,
        body: &[u8],
    ) -> io::Result<Reply> {
        Connection::open(self.address, limit)?.request(method, path, body)
    }

    /// GET.
    ///
    /// # Errors
    /// As [`Http::request`].
    pub fn get(&self, path: &str) -> io::Result<Reply> {
        self.request("GET", path, b"")
    }

    /// PUT.
    ///
    /// # Errors
    /// As [`Http::request`].
    pub fn put(&self, path: &str, body: impl AsRef<[u8]>) -> io::Result<Reply> {
        self.request("PUT", path, body.as_ref())
    }

    /// DELETE.
    ///
    /// # Errors
    /// As [`Http::request`].
    pub fn delete(&self, path: &str) -> io::Result<Reply> {
        self.request("DELETE", path, b"")
    }
}

/// A connection that is kept for many requests.
pub struct Connection {
    stream: BufReader<TcpStream>,
    host: SocketAddr,
}

impl Connection {
    /// Connects. `limit` bounds the connect and then every read and write.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn open(address: SocketAddr, limit: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, limit)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))?;
        Ok(Self {
            stream: BufReader::new(stream),
            host: address,
        })
    }

    /// Sends one request and reads its answer. After an error the connection is of no use.
    ///
    /// # Errors
    /// As [`Http::request`].
    pub fn request(&mut self, method: &str, path: &str, body: &[u8]) -> io::Result<Reply> {
        self.send(method, path, None, body)?;
        self.reply()
    }

    /// The same with a `Content-Type`, for servers that read it.
    ///
    /// # Errors
    /// As [`Http::request`].
    pub fn request_typed(
        &mut self,
        method: &str,
        path: &str,
        content_type: &str,
        body: &[u8],
    ) -> io::Result<Reply> {
        self.send(method, path, Some(content_type), body)?;
        self.reply()
    }

    /// Sends a GET whose answer does not end, and reads its status; [`Connection::next_lines`] reads on.
    ///
    /// # Errors
    /// As [`Http::request`]; also for any other status than 200, with the body.
    pub fn follow(&mut self, path: &str) -> io::Result<()> {
        self.send("GET", path, None, b"")?;
        let mut reply = self.head()?;
        if reply.status == 200 {
            return Ok(());
        }
        reply.body = self.body(&reply)?;
        Err(io::Error::other(format!(
            "{}: {}",
            reply.status,
            reply.text()
        )))
    }

    /// The next whole lines of an answer that is followed, when it comes in chunks, as Kubernetes sends a watch.
    /// `None`: the answer is over.
    ///
    /// # Errors
    /// When the connection breaks, or nothing comes within its limit.
    pub fn next_lines(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut lines = Vec::new();
        while lines.last() != Some(&b'\n') {
            let chunk = self.chunk()?;
            if chunk.is_empty() {
                return Ok(None);
            }
            lines.extend(chunk);
        }
        Ok(Some(lines))
    }

    fn send(
        &mut self,
        method: &str,
        path: &str,
        content_type: Option<&str>,
        body: &[u8],
    ) -> io::Result<()> {
        let content_type =
            content_type.map_or_else(String::new, |of| format!("Content-Type: {of}\r\n"));
        let mut message = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\n{content_type}Content-Length: {}\r\n\r\n",
            self.host,
            body.len()
        )
        .into_bytes();
        message.extend_from_slice(body);
        self.stream.get_mut().write_all(&message)
    }

    fn reply(&mut self) -> io::Result<Reply> {
        let mut reply = self.head()?;
        reply.body = self.body(&reply)?;
        Ok(reply)
    }

    fn head(&mut self) -> io::Result<Reply> {
        let status_line = self.line()?;
        let status = status_line
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3))
            .and_then(|code| code.parse().ok())
            .ok_or_else(|| io::Error::other(format!("not a status line: {status_line:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line
                .split_once(':')
                .ok_or_else(|| io::Error::other(format!("not a header: {line:?}")))?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        Ok(Reply {
            status,
            headers,
            body: Vec::new(),
        })
    }

    fn body(&mut self, head: &Reply) -> io::Result<Vec<u8>> {
        if head.header("transfer-encoding") == Some("chunked") {
            return self.chunks();
        }
        let length = head
            .header("content-length")
            .map_or(Ok(0), str::parse)
            .map_err(io::Error::other)?;
        self.exactly(length)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }

    fn exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let chunk = self.chunk()?;
            if chunk.is_empty() {
                return Ok(body);
            }
            body.extend(chunk);
        }
    }

    /// One chunk; an empty one is the last.
    fn chunk(&mut self) -> io::Result<Vec<u8>> {
        let length = usize::from_str_radix(self.line()?.trim(), 16).map_err(io::Error::other)?;
        let chunk = self.exactly(length)?;
        self.line()?;
        Ok(chunk)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Answers one request with `answer`, and gives back what it was asked.
    fn exchange(answer: &'static str) -> io::Result<Reply> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut seen = [0; 512];
            let _ = stream.read(&mut seen).expect("a request");
            stream.write_all(answer.as_bytes()).expect("still there");
        });
        let reply = Http { address }.get("/v1/status/leader");
        server.join().expect("the server does not panic");
        reply
    }

    #[test]
    fn sized_answer() {
        let reply =
            exchange("HTTP/1.1 404 Not Found\r\nX-Consul-Index: 7\r\nContent-Length: 2\r\n\r\nno")
                .expect("whole");
        assert_eq!(
            (reply.status, reply.index(), reply.text()),
            (404, 7, "no".into())
        );
    }

    #[test]
    fn chunked_answer() {
        let reply = exchange(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n",
        )
        .expect("whole");
        assert_eq!(reply.text(), "abcd");
    }

    #[test]
    fn an_answer_that_breaks_off_is_an_error() {
        assert!(exchange("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort").is_err());
    }
}
