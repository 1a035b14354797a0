//! The load: log lines such as Rails, Node and Go apps print, identical on every machine.
//!
//! The average line has 193 bytes with its LF: lograge, JSON, SQL and UTF-8 text, from a fixed seed.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use crate::Result;

const PATHS: [&str; 8] = [
    "/orders",
    "/orders/42/items",
    "/api/v2/users/me",
    "/search",
    "/cart/checkout",
    "/admin/reports/daily",
    "/health",
    "/webhooks/payments",
];
const CONTROLLERS: [&str; 4] =
    ["OrdersController", "Api::V2::UsersController", "SearchController", "CartsController"];
const TABLES: [&str; 4] = ["orders", "line_items", "users", "shipment_events"];
const EVENTS: [&str; 5] =
    ["order placed", "payment captured", "cache miss", "job enqueued", "retrying upstream call"];
const PHRASES: [&str; 6] = [
    "Bestellung für Jürgen Groß bestätigt, Lieferung nach Köln",
    "注文を受け付けました。配送先は東京都千代田区です",
    "Заказ принят, оплата прошла успешно",
    "commande expédiée à Besançon, numéro de suivi reçu ✓",
    "ελέγχθηκε η πληρωμή της παραγγελίας",
    "le délai est dépassé — nouvelle tentative prévue 🚚",
];

/// An endless, reproducible sequence of lines.
pub(crate) struct Lines {
    state: u64,
    text: String,
}

impl Lines {
    /// The sequence from the fixed seed.
    pub(crate) fn new() -> Self {
        Self { state: 0x9e37_79b9_7f4a_7c15, text: String::with_capacity(512) }
    }

    /// The next line, with its LF.
    pub(crate) fn next_line(&mut self) -> &[u8] {
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        let kind = self.below(100);
        let written = match kind {
            0..45 => self.lograge(&mut text),
            45..70 => self.json(&mut text),
            70..88 => self.sql(&mut text),
            _ => self.utf8(&mut text),
        };
        written.expect("writing to a String cannot fail");
        text.push('\n');
        self.text = text;
        self.text.as_bytes()
    }

    fn lograge(&mut self, out: &mut String) -> std::fmt::Result {
        let (path, controller) = (self.of(&PATHS), self.of(&CONTROLLERS));
        let status = *self.of(&[200_u16, 200, 200, 200, 302, 404, 422, 500]);
        let (view, db, rest) = (self.below(9_000), self.below(5_000), self.below(3_000));
        write!(
            out,
            "method=GET path={path} format=html controller={controller} action=show status={status} \
             duration={} view={} db={} request_id={:016x}{:016x} user_id={}",
            Hundredths(view + db + rest),
            Hundredths(view),
            Hundredths(db),
            self.next(),
            self.next(),
            self.below(900_000),
        )
    }

    fn json(&mut self, out: &mut String) -> std::fmt::Result {
        let (event, path) = (self.of(&EVENTS), self.of(&PATHS));
        write!(
            out,
            r#"{{"level":"info","time":"2026-03-04T05:{:02}:{:02}.{:03}Z","msg":"{event}","path":"{path}","order_id":{},"trace_id":"{:016x}{:016x}","elapsed_ms":{},"retries":{},"region":"eu"}}"#,
            self.below(60),
            self.below(60),
            self.below(1_000),
            self.below(9_000_000),
            self.next(),
            self.next(),
            self.below(2_500),
            self.below(4),
        )
    }

    fn sql(&mut self, out: &mut String) -> std::fmt::Result {
        let (first, second) = (self.of(&TABLES), self.of(&TABLES));
        write!(
            out,
            r#"D, [2026-03-04T05:06:07.{:06} #{}] DEBUG -- :   Load ({}ms)  SELECT "{first}".* FROM "{first}" INNER JOIN "{second}" ON "{second}"."id" = $1 WHERE "{first}"."account_id" = $2 ORDER BY "{first}"."created_at" DESC LIMIT $3"#,
            self.below(1_000_000),
            self.below(40_000),
            Hundredths(self.below(2_000)),
        )
    }

    fn utf8(&mut self, out: &mut String) -> std::fmt::Result {
        let phrase = self.of(&PHRASES);
        write!(out, "[{:08x}] INFO  {phrase} (order {})", self.next() as u32, self.below(9_000_000))
    }

    /// xorshift64*: random enough for text, and the same on every machine.
    fn next(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 33) % bound
    }

    fn of<T>(&mut self, choice: &'static [T]) -> &'static T {
        &choice[self.below(choice.len() as u64) as usize]
    }
}

/// A number of hundredths, as `12.34`.
struct Hundredths(u64);

impl std::fmt::Display for Hundredths {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:02}", self.0 / 100, self.0 % 100)
    }
}

/// Writes `count` lines to `path`; returns the bytes written.
pub(crate) fn write_file(path: &Path, count: u64) -> Result<u64> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut lines = Lines::new();
    let mut bytes = 0;
    for _ in 0..count {
        let line = lines.next_line();
        file.write_all(line)?;
        bytes += line.len() as u64;
    }
    file.flush()?;
    Ok(bytes)
}
