//! A shop that takes orders: what is written to the source.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use causeway::context::now_ms;
use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};

/// Orders as they come in, keyed by order.
pub const PLACED: &str = "orders.placed";
/// Those of them that were paid.
pub const PAID: &str = "orders.paid";
/// Who the customers are: compacted, keyed by customer, null when one leaves.
pub const CUSTOMERS: &str = "orders.customers";
/// Payments in transactions, of which some are aborted.
pub const PAYMENTS: &str = "payments";
/// Nobody asked to copy this one.
pub const CLICKS: &str = "web.clicks";

/// Orders a second while the shop is open.
pub const ORDERS_PER_SECOND: u64 = 1_500;

const CUSTOMER_COUNT: u64 = 5_000;
const PAYMENTS_PER_TRANSACTION: u64 = 20;
/// One transaction in so many is given up.
const ABORT_EVERY: u64 = 8;
const TRANSACTIONS_PER_SECOND: f64 = 20.0;
const PATIENCE: Duration = Duration::from_secs(60);

/// What the shop has written so far, as acknowledged by the source.
#[derive(Default)]
struct Written {
    orders: AtomicU64,
    payments: AtomicU64,
    aborted: AtomicU64,
}

/// What the shop has written.
#[derive(Clone, Copy, Debug)]
pub struct Books {
    /// Records outside transactions that the source acknowledged.
    pub orders: u64,
    /// Payments in committed transactions.
    pub payments: u64,
    /// Payments in aborted ones.
    pub aborted: u64,
}

impl Books {
    /// Records that a reader of committed records must find.
    pub fn committed(self) -> u64 {
        self.orders + self.payments
    }
}

/// The shop. It writes until it is closed.
pub struct Shop {
    stop: Arc<AtomicBool>,
    written: Arc<Written>,
    threads: Vec<JoinHandle<()>>,
}

impl Shop {
    /// Writes the backlog of `orders` orders and `transactions` transactions, then goes on in the background.
    pub fn open(bootstrap: &str, orders: u64, transactions: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let written = Arc::new(Written::default());
        let mut counter = Counter::new(bootstrap, &written);
        let mut till = Till::new(bootstrap, &written);
        thread::scope(|scope| {
            scope.spawn(|| {
                let opened = now_ms() - orders as i64;
                for n in 0..orders {
                    counter.take_order(n, opened + n as i64);
                }
                counter.flush();
            });
            scope.spawn(|| (0..transactions).for_each(|n| till.book(n)));
        });
        let stream = {
            let stop = Arc::clone(&stop);
            move || {
                let rate = ORDERS_PER_SECOND as f64;
                paced(&stop, rate, |n| counter.take_order(orders + n, now_ms()));
                counter.flush();
            }
        };
        let transactions_stream = {
            let stop = Arc::clone(&stop);
            move || paced(&stop, TRANSACTIONS_PER_SECOND, |n| till.book(transactions + n))
        };
        Self {
            stop,
            written,
            threads: vec![thread::spawn(stream), thread::spawn(transactions_stream)],
        }
    }

    /// What has been written so far.
    pub fn books(&self) -> Books {
        Books {
            orders: self.written.orders.load(Ordering::Relaxed),
            payments: self.written.payments.load(Ordering::Relaxed),
            aborted: self.written.aborted.load(Ordering::Relaxed),
        }
    }

    /// Stops writing and waits for what is under way.
    pub fn close(mut self) -> Books {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("the shop does not panic");
        }
        self.books()
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Calls `act` with 0, 1, 2… so many times a second until told to stop.
fn paced(stop: &AtomicBool, per_second: f64, mut act: impl FnMut(u64)) {
    let started = Instant::now();
    let mut done = 0;
    while !stop.load(Ordering::Relaxed) {
        let due = (started.elapsed().as_secs_f64() * per_second) as u64;
        while done < due && !stop.load(Ordering::Relaxed) {
            act(done);
            done += 1;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Writes clicks, which stay where they are.
pub fn click(bootstrap: &str) {
    let mut counter = Counter::new(bootstrap, &Arc::default());
    for n in 0..1_000 {
        counter.send(
            CLICKS,
            &format!("visitor-{n}"),
            Some("{\"page\":\"/\"}"),
            now_ms(),
            None,
        );
    }
    counter.flush();
}

/// Order number `n` as JSON.
pub fn order(n: u64) -> String {
    let dice = mix(n);
    let items = 1 + dice % 3;
    let mut total = 0;
    let lines: Vec<_> = (0..items)
        .map(|i| {
            let dice = mix(dice + i);
            let (quantity, price) = (1 + dice % 3, 1_000 * (3 + dice / 7 % 90));
            total += quantity * price;
            format!(
                "{{\"sku\":\"SKU-{:04}\",\"quantity\":{quantity},\"price\":{price}}}",
                dice / 3 % 2_000
            )
        })
        .collect();
    format!(
        "{{\"order\":\"{}\",\"customer\":\"{}\",\"amount\":{total},\"currency\":\"KRW\",\"items\":[{}]}}",
        order_key(n),
        customer_of(n),
        lines.join(","),
    )
}

fn order_key(n: u64) -> String {
    format!("O-{n:08}")
}

fn customer_of(n: u64) -> String {
    format!("C-{:05}", mix(n) % CUSTOMER_COUNT)
}

/// The counter where orders are taken.
struct Counter {
    producer: BaseProducer<Acknowledged>,
}

impl Counter {
    fn new(bootstrap: &str, written: &Arc<Written>) -> Self {
        let producer = settings(bootstrap)
            .set("linger.ms", "5")
            .set("compression.type", "lz4")
            .set("queue.buffering.max.messages", "500000")
            .create_with_context(Acknowledged(Arc::clone(written)))
            .expect("these settings are right");
        Self { producer }
    }

    fn take_order(&mut self, n: u64, at: i64) {
        let (key, order) = (order_key(n), order(n));
        self.send(PLACED, &key, Some(&order), at, Some(n));
        if mix(n) % 10 < 7 {
            let paid = format!(
                "{{\"order\":\"{key}\",\"customer\":\"{}\",\"method\":\"card\"}}",
                customer_of(n)
            );
            self.send(PAID, &key, Some(&paid), at, None);
        }
        if n.is_multiple_of(50) {
            let leaves = n.is_multiple_of(1_000);
            let profile = format!("{{\"segment\":\"retail\",\"orders\":{}}}", 1 + mix(n) % 40);
            self.send(
                CUSTOMERS,
                &customer_of(n),
                (!leaves).then_some(&profile),
                at,
                None,
            );
        }
        if n.is_multiple_of(500) {
            self.producer.poll(Duration::ZERO);
        }
    }

    fn send(&mut self, topic: &str, key: &str, value: Option<&str>, at: i64, trace: Option<u64>) {
        let mut record = BaseRecord::to(topic).key(key).timestamp(at);
        if let Some(value) = value {
            record = record.payload(value);
        }
        if let Some(trace) = trace {
            let trace = format!("{:016x}", mix(trace));
            record = record.headers(OwnedHeaders::new().insert(Header {
                key: "trace-id",
                value: Some(&trace),
            }));
        }
        while let Err((error, back)) = self.producer.send(record) {
            refuse_all_but_a_full_queue(topic, &error);
            record = back;
            self.producer.poll(Duration::from_millis(10));
        }
    }

    fn flush(&self) {
        self.producer
            .flush(PATIENCE)
            .expect("the source takes what has been written");
    }
}

/// The till where payments are booked, each batch of them in a transaction.
struct Till {
    producer: BaseProducer,
    written: Arc<Written>,
}

impl Till {
    fn new(bootstrap: &str, written: &Arc<Written>) -> Self {
        let producer: BaseProducer = settings(bootstrap)
            .set("transactional.id", "till-1")
            .set("linger.ms", "0")
            .create()
            .expect("these settings are right");
        producer
            .init_transactions(PATIENCE)
            .expect("the source coordinates transactions");
        Self {
            producer,
            written: Arc::clone(written),
        }
    }

    fn book(&mut self, transaction: u64) {
        let declined = transaction % ABORT_EVERY == ABORT_EVERY - 1;
        let word = if declined { "declined" } else { "payment" };
        self.producer.begin_transaction().expect("one at a time");
        for i in 0..PAYMENTS_PER_TRANSACTION {
            let n = transaction * PAYMENTS_PER_TRANSACTION + i;
            let key = format!("{word}-{n:08}");
            let value = format!(
                "{{\"payment\":\"{key}\",\"customer\":\"{}\",\"amount\":{}}}",
                customer_of(n),
                1_000 * (3 + mix(n) % 200)
            );
            let record = BaseRecord::to(PAYMENTS).key(&key).payload(&value);
            if let Err((error, _)) = self.producer.send(record) {
                panic!("{PAYMENTS}: {error}");
            }
        }
        // An abort drops what has not left the client; these must have been on the broker.
        self.producer.flush(PATIENCE).expect("the source takes payments");
        let (end, count) = if declined {
            (self.producer.abort_transaction(PATIENCE), &self.written.aborted)
        } else {
            (self.producer.commit_transaction(PATIENCE), &self.written.payments)
        };
        end.expect("the source ends the transaction");
        count.fetch_add(PAYMENTS_PER_TRANSACTION, Ordering::Relaxed);
    }
}

/// Counts what the source acknowledges.
struct Acknowledged(Arc<Written>);

impl ClientContext for Acknowledged {}

impl ProducerContext for Acknowledged {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => _ = self.0.orders.fetch_add(1, Ordering::Relaxed),
            Err((error, _)) => eprintln!("the source did not take an order: {error}"),
        }
    }
}

fn settings(bootstrap: &str) -> ClientConfig {
    let mut settings = ClientConfig::new();
    settings
        .set("bootstrap.servers", bootstrap)
        .set("enable.idempotence", "true")
        .set("partitioner", "murmur2_random")
        // New partitions are to be used soon.
        .set("topic.metadata.refresh.interval.ms", "1000");
    settings
}

fn refuse_all_but_a_full_queue(topic: &str, error: &KafkaError) {
    let full = matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull));
    assert!(full, "{topic}: {error}");
}

/// A number that looks random and is always the same (splitmix64).
fn mix(n: u64) -> u64 {
    let n = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}
