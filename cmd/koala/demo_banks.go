package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"koala/city/foreign"
	"koala/city/market"
	"koala/hostlink"
	"koala/hsm"
	"koala/internal/clock"
	"koala/issuing/bin"
	"koala/spec/iso8583"
	"koala/spec/pan"
	"koala/switching"
)

// banks are the hosts of the other banks in the demo, all simulated and behind
// one port; the header of a message says whose it is.
type banks struct {
	clock clock.Clock
	dir   string   // of the files in which they keep their books
	names []string // those that are played here
	l     net.Listener

	mu    sync.Mutex
	hosts map[string]*foreign.Host
}

// openBanks plays every host that the published ranges name and that no --peer
// leads to. Their books are files of dir, so that a bank answers for what it
// booked in an earlier run.
func openBanks(now clock.Clock, dir string, p *peers) (*banks, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("the books of the simulated banks: %w", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("a port for the simulated banks: %w", err)
	}
	b := &banks{clock: now, dir: dir, l: l, hosts: map[string]*foreign.Host{}}
	for _, r := range bin.All() {
		if r.House() || r.Bank == "" || p.ways[r.Bank] != nil {
			continue
		}
		p.reach(r.Bank, l.Addr().String())
		b.names = append(b.names, r.Bank)
	}
	return b, nil
}

// run plays them until ctx ends.
func (b *banks) run(ctx context.Context, log *slog.Logger) (wait func()) {
	return (&counter{server: hostlink.Server{Handler: b, Log: log}, l: b.l}).run(ctx, log)
}

// Handle has the bank answer that the message is for.
func (b *banks) Handle(ctx context.Context, message []byte) ([]byte, error) {
	head, err := iso8583.ParseInterchangeHeader(message)
	if err != nil {
		return nil, err
	}
	h, err := b.host(strings.TrimRight(string(head.Destination[:]), " "))
	if err != nil {
		return nil, err
	}
	return h.Handle(ctx, message)
}

// host is a bank's, made when it is asked first.
func (b *banks) host(name string) (h *foreign.Host, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if h = b.hosts[name]; h != nil {
		return h, nil
	}
	h, err = foreign.New(foreign.Config{Name: name, Institution: fmt.Sprintf("%08d", binary.BigEndian.Uint32(simulated("institution", name))%1e8),
		PIN: [16]byte(simulated("PIN", name)), MAC: [16]byte(simulated("MAC", name)), Clock: b.clock, Fees: market.Fees,
		Books: filepath.Join(b.dir, name+".books")})
	if err != nil {
		return nil, fmt.Errorf("%w; delete the file to have the simulated bank start anew", err)
	}
	b.hosts[name] = h
	return h, nil
}

// close gives the books back.
func (b *banks) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, h := range b.hosts {
		_ = h.Close() // all that was answered is in it
	}
}

// simulated are the 16 bytes that a simulated bank has for a purpose. They are
// no secret: no real bank is behind them.
func simulated(what, bank string) []byte {
	sum := sha256.Sum256([]byte("koala simulated bank\x00" + what + "\x00" + bank))
	return sum[:16]
}

// sharers is how many keys are brought in at once: they share their commits.
const sharers = 16

// share brings the banks' zone keys into the house's key store, where they are
// not there yet.
func (b *banks) share(ctx context.Context, keys *hsm.HSM, log *slog.Logger) {
	list, err := keys.List(ctx)
	if err != nil {
		log.Error("keys of simulated banks", "error", err)
		return
	}
	known := map[string]bool{}
	for _, k := range list {
		known[k.Label] = true
	}
	slots := make(chan struct{}, sharers)
	var all sync.WaitGroup
	bring := func(label, what, bank string) {
		if known[label] {
			return
		}
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			if _, err := keys.Import(ctx, label, hsm.ZoneKey, simulated(what, bank)); err != nil && ctx.Err() == nil {
				log.Error("key of a simulated bank", "bank", bank, "error", err)
			}
		})
	}
	for _, name := range b.names {
		pin, mac := switching.ZoneLabels(name)
		bring(pin, "PIN", name)
		bring(mac, "MAC", name)
	}
	all.Wait()
}

// sample is a card number of a simulated bank.
func (b *banks) sample() string {
	const first = "622588000000001" // China Merchants Bank, 16 digits
	for d := '0'; d <= '9'; d++ {
		if _, err := pan.Parse(first + string(d)); err == nil {
			return first + string(d)
		}
	}
	return ""
}

// pin is what the cardholder of the sample knows.
func (b *banks) pin(number string) string {
	p, err := pan.Parse(number)
	if err != nil {
		return ""
	}
	r, _ := bin.Of(p)
	h, err := b.host(r.Bank)
	if err != nil {
		return ""
	}
	return h.PIN(number)
}
