package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"koala/app"
	"koala/issuing"
)

// A counterRig is a house in a folder with a merchant's terminal and a card of
// the house's bank, as koala's commands make them.
type counterRig struct {
	t    *testing.T
	dir  string
	till string // file that koala terminal add printed
	card *paperCard
	stop func() // of the server
	run  sync.WaitGroup
	page string // address of the pages
	line string // address for terminals
}

func newCounterRig(t *testing.T) *counterRig {
	t.Helper()
	r := &counterRig{t: t, dir: t.TempDir()}
	r.with(func(h *app.House) (err error) {
		if err = paperRoots(t.Context(), h); err == nil {
			r.card, err = newPaperCard(t.Context(), h, issuing.DebitCard, "client", 5_000_00)
		}
		return err
	})
	r.till = filepath.Join(r.dir, "till.json")
	r.write(r.till, r.koala("terminal", "add", "--trial", "Noodles", "--json", "--data", r.dir))
	return r
}

// with runs do on the house while nothing serves it.
func (r *counterRig) with(do func(h *app.House) error) {
	r.t.Helper()
	h, err := app.New(r.t.Context(), app.Config{Data: r.dir, Log: slog.New(slog.DiscardHandler)})
	if err == nil {
		err = do(h)
	}
	if h != nil {
		h.Close()
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *counterRig) write(path, text string) {
	r.t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// koala runs a command that has to succeed.
func (r *counterRig) koala(args ...string) string {
	r.t.Helper()
	x := koala(r.t, "", args...)
	if x.code != exitFine {
		r.t.Fatalf("koala %s: %d %s", strings.Join(args, " "), x.code, x.errs)
	}
	return x.out
}

// addresses is an output that tells once it has named the addresses.
type addresses struct {
	mu    sync.Mutex
	text  bytes.Buffer
	found chan [2]string
}

var whereAt = regexp.MustCompile(`koala is at (\S+)/,[^\n]*\nterminals dial (\S+)\n`)

func (a *addresses) Write(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.text.Write(p)
	if m := whereAt.FindSubmatch(a.text.Bytes()); m != nil && a.found != nil {
		a.found <- [2]string{string(m[1]), string(m[2])}
		a.found = nil
	}
	return len(p), nil
}

// serve starts koala serve on free ports.
func (r *counterRig) serve(args ...string) {
	r.t.Helper()
	ctx, stop := context.WithCancel(r.t.Context())
	found := make(chan [2]string, 1)
	out := &addresses{found: found}
	ended := make(chan struct{})
	r.run.Go(func() {
		defer close(ended)
		var errs bytes.Buffer
		if code := run(ctx, append([]string{"serve", "--data", r.dir, "--listen", "127.0.0.1:0", "--terminals", "127.0.0.1:0"}, args...), strings.NewReader(""), out, &errs); code != exitFine {
			r.t.Errorf("koala serve: %d %s", code, errs.String())
		}
	})
	r.stop = func() { stop(); r.run.Wait() }
	r.t.Cleanup(r.stop)
	select {
	case at := <-found:
		r.page, r.line = at[0], at[1]
	case <-ended:
		r.t.Fatal("koala serve ended")
	case <-time.After(30 * time.Second):
		r.t.Fatal("koala serve does not say where it is")
	}
}

// installed has the terminal installed at the devices' door; its numbers and its
// master key.
func (r *counterRig) installed() (tid, mid string, tmk [16]byte) {
	r.t.Helper()
	file := filepath.Join(r.dir, "till.tmk")
	r.koala("terminal", "install", "--door", r.page, "--card", r.till, "--tmk-file", file)
	text, err := os.ReadFile(file)
	if err != nil {
		r.t.Fatal(err)
	}
	raw, err := hex.DecodeString(strings.Fields(string(text))[0])
	if err != nil || len(raw) != len(tmk) {
		r.t.Fatalf("%s: %v", text, err)
	}
	var card struct{ TID, MID string }
	if text, err = os.ReadFile(r.till); err == nil {
		err = json.Unmarshal(text, &card)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return card.TID, card.MID, [16]byte(raw)
}

// wallet is what the cardholder has, fen, and what of it is held.
func (r *counterRig) wallet() (posted, held int64) {
	r.t.Helper()
	r.with(func(h *app.House) error {
		b, err := h.Book.Balance(walletOf("client"))
		posted, held = b.Posted.Minor(), b.Held.Minor()
		return err
	})
	return posted, held
}
