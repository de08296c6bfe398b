package switching_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"koala/hostlink"
	"koala/internal/db"
	"koala/issuing"
	"koala/ledger"
	"koala/money"
	"koala/spec/pboc"
	"koala/wallet"
)

// cpu is the processor time that the process has used: what a sale costs on a
// machine that others use too.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkSale: 64 terminals, each with its own card, sell by chip as fast as
// they can: MAC, cryptogram, hold, durable row, answer; in the process and over
// TCP. The time is per sale; cpu is that of both ends.
func BenchmarkSale(b *testing.B) {
	b.Run("handle", func(b *testing.B) {
		sales(b, func(h *house) func(int, []byte) ([]byte, error) {
			return func(_ int, wire []byte) ([]byte, error) { return h.host.Handle(ctx, wire) }
		})
	})
	b.Run("tcp", func(b *testing.B) {
		sales(b, func(h *house) func(int, []byte) ([]byte, error) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			running, stop := context.WithCancel(ctx)
			b.Cleanup(stop)
			go (&hostlink.Server{Handler: h.host}).Serve(running, l)
			lines := make([]*hostlink.Line, tills)
			for i := range lines {
				lines[i] = &hostlink.Line{Dial: func() (net.Conn, error) { return net.Dial("tcp", l.Addr().String()) }}
			}
			return func(i int, wire []byte) ([]byte, error) { return lines[i].Exchange(wire) }
		})
	})
}

const tills = 64

func sales(b *testing.B, connect func(*house) func(int, []byte) ([]byte, error)) {
	h := open(b, false, nil)
	h.do(func(tx *db.Tx) error {
		_, err := ledger.Post(tx, ledger.Move("rich", "bank.custody", wallet.Account(holder), money.Fen(9_000_000_000_00)))
		return err
	})
	var cards [tills]*card
	var terminals [tills]*terminal
	per := (b.N + tills - 1) / tills
	wires, times := make([][][]byte, tills), make([][]time.Duration, tills)
	for i := range cards {
		cards[i], terminals[i] = h.card(issuing.DebitCard), h.terminal(fmt.Sprintf("1%07d", i))
		for range per {
			m := terminals[i].message("0200", fields{3: "000000", 4: fmt.Sprintf("%012d", 1), 11: terminals[i].next(), 25: "00", 49: "156",
				60: fmt.Sprintf("22%06d00060", terminals[i].batch)})
			for f, v := range cards[i].chip(0, 1, pboc.ARQC) {
				m.SetText(f, v)
			}
			wire, err := m.Seal(nil, terminals[i].key)
			if err != nil {
				b.Fatal(err)
			}
			wires[i] = append(wires[i], wire)
		}
	}
	exchange := connect(h)
	var wrong atomic.Int64
	b.ReportAllocs()
	before := cpu()
	b.ResetTimer()
	var wg sync.WaitGroup
	for i := range tills {
		wg.Go(func() {
			for _, wire := range wires[i] {
				start := time.Now()
				if answer, err := exchange(i, wire); err != nil || len(answer) < 60 {
					wrong.Add(1)
				}
				times[i] = append(times[i], time.Since(start))
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	all := slices.Sorted(slices.Values(slices.Concat(times...)))
	b.ReportMetric(float64((cpu()-before).Microseconds())/float64(per*tills), "cpu-µs/sale")
	b.ReportMetric(float64(per*tills)/b.Elapsed().Seconds(), "sales/s")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds())/1000, "p99-ms")
	var commits int
	h.read(func(q *db.Query) error { return q.QueryRow(`SELECT COUNT(*) FROM ledger_journal`).Scan(&commits) })
	b.ReportMetric(float64(per*tills)/float64(commits), "sales/commit")
	terminals[0].take(terminals[0].exchange(wires[0][per-1]))
	if got := terminals[0].in.Text(39); got != "00" || wrong.Load() > 0 {
		b.Fatalf("%s, %d wrong", got, wrong.Load())
	}
}
