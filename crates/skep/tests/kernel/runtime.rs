//! Events in a tokio runtime.

use std::ops::ControlFlow;
use std::time::Duration;

use skep::{AsyncReader, Next, PerfOptions, PerfRecord, Record};
use tokio::time::timeout;

use super::may_load;
use super::readers::{number, perf, ring, send};

/// A runtime of this thread alone, as small applications have it.
fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[test]
fn events_are_awaited() {
    if !may_load() {
        return;
    }
    block_on(async {
        let loaded = ring();
        let mut events = loaded.events(&["ring"]).unwrap().into_async().unwrap();
        // Nothing yet: the future waits, and others run meanwhile.
        let silence = timeout(Duration::from_millis(30), events.poll(|_| ControlFlow::Continue(()))).await;
        assert!(silence.is_err());
        // Loaded objects may be used by tasks.
        let sending = tokio::spawn(async move {
            for _ in 0..5 {
                tokio::time::sleep(Duration::from_millis(2)).await;
                send(&loaded, 2);
            }
            loaded
        });
        let mut seen = 0;
        let all = events.for_each(|record| {
            let Record::Event { data, .. } = record else { panic!("{record:?}") };
            assert_eq!(number(data), 77);
            seen += 1;
            if seen == 10 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        timeout(Duration::from_secs(60), all).await.unwrap().unwrap();
        let loaded = sending.await.unwrap();
        // What a sink did not take stays: one by one.
        send(&loaded, 3);
        for _ in 0..3 {
            assert_eq!(
                timeout(Duration::from_secs(60), events.poll(|_| ControlFlow::Break(()))).await.unwrap().unwrap(),
                1
            );
        }
        send(&loaded, 1);
        let mut events = events.into_sync();
        assert_eq!(events.poll(Some(Duration::from_secs(5)), |_| ControlFlow::Continue(())).unwrap(), 1);
    });
}

#[test]
fn readers_are_awaited_and_flushed() {
    if !may_load() {
        return;
    }
    block_on(async {
        let loaded = ring();
        let mut reader = AsyncReader::new(loaded.map("ring").unwrap().ring_reader().unwrap()).unwrap();
        assert!(timeout(Duration::from_millis(30), reader.read()).await.is_err());
        for _ in 0..3 {
            send(&loaded, 1);
            match timeout(Duration::from_secs(60), reader.read()).await.unwrap().unwrap() {
                Next::Record(record) => assert_eq!(number(&record), 77),
                other => panic!("{other:?}"),
            }
        }
        let flusher = reader.get_mut().flusher();
        tokio::spawn(async move { flusher.flush() });
        assert!(matches!(timeout(Duration::from_secs(60), reader.read()).await.unwrap().unwrap(), Next::Flushed));
        assert_eq!(reader.into_inner().available_bytes(), 0);

        let loaded = perf();
        let reader = loaded.map("perf").unwrap().perf_reader(&PerfOptions::default()).unwrap();
        let mut reader = AsyncReader::new(reader).unwrap();
        assert!(timeout(Duration::from_millis(30), reader.read()).await.is_err());
        send(&loaded, 3);
        for expected in 0..3 {
            match timeout(Duration::from_secs(60), reader.read()).await.unwrap().unwrap() {
                Next::Record(PerfRecord::Event { data, .. }) => assert_eq!(number(data), expected),
                other => panic!("{other:?}"),
            }
        }
        reader.get_mut().flusher().flush();
        assert!(matches!(timeout(Duration::from_secs(60), reader.read()).await.unwrap().unwrap(), Next::Flushed));
    });
}

#[test]
fn without_a_runtime_there_is_an_error_and_no_panic() {
    if !may_load() {
        return;
    }
    let loaded = ring();
    let error = loaded.events(&["ring"]).unwrap().into_async().unwrap_err();
    assert!(error.hint().is_some_and(|hint| hint.contains("tokio::main")), "{error}");
}
