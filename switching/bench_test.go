package switching_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"koala/issuing"
	"koala/ledger"
	"koala/money"
	"koala/spec/pboc"
	"koala/wallet"

	"koala/internal/db"
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
// they can: MAC, cryptogram, hold, durable row, answer. The time is per sale.
func BenchmarkSale(b *testing.B) {
	h := open(b, false, nil)
	h.do(func(tx *db.Tx) error {
		_, err := ledger.Post(tx, ledger.Move("rich", "bank.custody", wallet.Account(holder), money.Fen(9_000_000_000_00)))
		return err
	})
	const n = 64
	var cards [n]*card
	var terminals [n]*terminal
	for i := range cards {
		cards[i], terminals[i] = h.card(issuing.DebitCard), h.terminal(fmt.Sprintf("1%07d", i))
	}
	per := (b.N + n - 1) / n
	wires := make([][][]byte, n)
	for i := range wires {
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
	var wrong atomic.Int64
	b.ReportAllocs()
	before := cpu()
	b.ResetTimer()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			for _, wire := range wires[i] {
				answer, err := h.host.Handle(ctx, wire)
				if err != nil || len(answer) < 60 {
					wrong.Add(1)
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64((cpu()-before).Microseconds())/float64(per*n), "cpu-µs/sale")
	b.ReportMetric(float64(per*n)/b.Elapsed().Seconds(), "sales/s")
	var commits int
	h.read(func(q *db.Query) error { return q.QueryRow(`SELECT COUNT(*) FROM ledger_journal`).Scan(&commits) })
	b.ReportMetric(float64(per*n)/float64(commits), "sales/commit")
	terminals[0].take(terminals[0].exchange(wires[0][per-1]))
	if got := terminals[0].in.Text(39); got != "00" || wrong.Load() > 0 {
		b.Fatalf("%s, %d wrong", got, wrong.Load())
	}
}
