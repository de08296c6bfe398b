package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"koala/band"
	"koala/card"
	"koala/internal/clock"
	"koala/internal/db"
	"koala/pcsc"
	"koala/spec/iso7816"
)

// serveFlags are the flags of `koala band serve`.
type serveFlags struct {
	bandFlags
	vpcd        string
	personality string
	talk        bool
	listen      string
	radio       string
	maker       string
	yes         bool
}

func bandServeCommand() *cobra.Command {
	var f serveFlags
	c := &cobra.Command{
		Use:   "serve",
		Short: "Hold a band to a virtual PC/SC reader, or let phones speak with it",
		Long: `Dials the reader driver of vsmartcard (vpcd), which runs inside pcscd and listens on port
35963, and answers as the card in that reader until interrupted. When pcscd stops, it dials
again until pcscd is back. A band of a house or demo can be served while the house is stopped.

The band's file is kept exactly: a command that changes the element's memory is answered only
after the new state is on the disk. So whatever is killed or loses power, the file holds the
last command that was answered, or one more whose answer was lost, as a real card does.

With --radio the band listens for phones instead, over TCP, as docs/band-protocol.md says; with
--vpcd given as well it does both. A phone that pairs shows six digits: they are asked for here
(or taken for equal, with --yes). Try it with koala band pair and koala band phone.

Personalities: contactless (Quickpass, transit), desfire (contactless, the DESFire application
is current without a SELECT), beijing (contactless, the transit purse is), contact-t0 and
contact-t1 (chip contacts).`,
		Example: "  koala band serve --vpcd 127.0.0.1:35963 --name blue\n  koala band serve --personality contact-t1 --band blue.band --log\n" +
			"  koala band serve --radio 127.0.0.1:7415 --name blue",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	f.add(c)
	c.Flags().StringVar(&f.vpcd, "vpcd", "127.0.0.1:35963", "address and port of the virtual reader")
	c.Flags().StringVar(&f.listen, "listen", "", "wait here for readers that dial (vsmartcard's reversed mode, koala pos --connect) instead of --vpcd")
	c.Flags().StringVar(&f.personality, "personality", "contactless", "contactless, desfire, beijing, contact-t0 or contact-t1")
	c.Flags().StringVar(&f.radio, "radio", "", "address and port to listen on for phones, instead of --vpcd unless that is given too")
	c.Flags().BoolVar(&f.yes, "yes", false, "take a phone's digits for equal without asking, for scripts")
	c.Flags().StringVar(&f.maker, "maker", "", "whose releases phones may install: an Ed25519 public key in hexadecimal; none without it")
	c.Flags().BoolVar(&f.talk, "log", false, "keep the dialogue beside the band's file, for koala band log")
	return c
}

func (f *serveFlags) run(cmd *cobra.Command) error {
	p, err := pcsc.PersonalityNamed(f.personality)
	if err != nil {
		return errUsage{err}
	}
	for name, address := range map[string]string{"--vpcd": f.vpcd, "--radio": f.radio, "--listen": f.listen} {
		if _, _, err := net.SplitHostPort(address); err != nil && (name == "--vpcd" || address != "") {
			return errUsage{fmt.Errorf("%s %q: %w", name, address, err)}
		}
	}
	path, err := f.path()
	if err != nil {
		return err
	}
	if err := houseRests(cmd.Context(), path); err != nil {
		return err
	}
	unlock, err := lockBand(path)
	if err != nil {
		return err
	}
	defer unlock()
	b, err := loadBand(path)
	if err != nil {
		return err
	}
	talk, err := openTalk(path, f.talk)
	if err != nil {
		return err
	}
	defer talk.Close()
	kept := &keptCard{path: path, band: b, writes: b.Element.Memory().Writes()}
	teller := &serveTeller{out: cmd.OutOrStdout(), json: f.json, talk: talk, clock: clock.System()}
	return errors.Join(f.both(cmd, kept, p, teller), teller.err)
}

// both serves the reader, phones, or the one beside the other; what ends one
// ends both.
func (f *serveFlags) both(cmd *cobra.Command, kept *keptCard, p pcsc.Personality, teller *serveTeller) error {
	ctx, stop := context.WithCancel(cmd.Context())
	defer stop()
	var phones error
	var radio sync.WaitGroup
	if f.radio != "" {
		m, err := newMast(kept, f, teller, cmd.InOrStdin(), cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		l, err := net.Listen("tcp", f.radio)
		if err != nil {
			return err
		}
		teller.say("radio", fmt.Sprintf("band %s listens for phones at %s", kept.band.ID, l.Addr()))
		if f.listen == "" && !cmd.Flags().Changed("vpcd") {
			return m.run(ctx, l)
		}
		radio.Go(func() {
			defer stop()
			phones = m.run(ctx, l)
		})
	}
	r := &pcsc.Reader{Card: kept, Personality: p, Hear: teller.hear, Stop: func(err error) bool { return errors.Is(err, errSave) }}
	err := f.hold(ctx, r, kept.band.ID, teller)
	stop()
	radio.Wait()
	return errors.Join(err, phones)
}

// hold holds the band to the reader it dials, or to readers that dial it.
func (f *serveFlags) hold(ctx context.Context, r *pcsc.Reader, id string, teller *serveTeller) error {
	if f.listen == "" {
		teller.say("ready", fmt.Sprintf("band %s as %s card for the reader at %s", id, r.Personality.Name, f.vpcd))
		return r.Run(ctx, f.vpcd)
	}
	l, err := net.Listen("tcp", f.listen)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { l.Close() })()
	teller.say("ready", fmt.Sprintf("band %s as %s card for readers that dial %s", id, r.Personality.Name, l.Addr()))
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("listening for readers: %w", err)
		}
		if err := r.Serve(ctx, conn); r.Stop(err) {
			return err
		}
	}
}

// houseRests makes sure that no house is running on the folder in which a band
// lies: its street keeps the bands it has used in memory and would write over
// what is done here.
func houseRests(ctx context.Context, path string) error {
	folder := filepath.Dir(filepath.Dir(path))
	file := filepath.Join(folder, "koala.db")
	if _, err := os.Stat(file); err != nil {
		return nil
	}
	store, err := db.Open(ctx, db.Config{URL: file})
	if err != nil {
		return fmt.Errorf("a band of the house in %s: stop the house first: %w", folder, err)
	}
	return store.Close()
}

// A keptCard is an element whose every change is on the disk before its answer
// leaves. A change that cannot be kept is an answer that never comes.
type keptCard struct {
	lock    sync.Mutex // held while a reader's or a phone's request is carried out
	band    *band.Band
	path    string
	writes  int              // page writes of the state on the disk
	contact iso7816.Transmit // over the air through the band's front end, else the element
}

func (k *keptCard) keep() error {
	if k.band.Element.Memory().Writes() == k.writes {
		return nil
	}
	return k.saveAll()
}

// saveAll keeps the whole band, what its wearer set included.
func (k *keptCard) saveAll() error {
	if err := saveBand(k.path, k.band); err != nil {
		k.band.Leave()
		return err
	}
	k.writes = k.band.Element.Memory().Writes()
	return nil
}

// UID is the element's.
func (k *keptCard) UID() [7]byte { return k.band.Element.UID() }

// PowerOn powers the element; what the recovery changed is kept.
func (k *keptCard) PowerOn(i card.Interface) (err error) {
	k.lock.Lock()
	defer k.lock.Unlock()
	if i == card.Contactless {
		k.contact, err = k.band.Field()
	} else {
		k.contact, err = k.band.Element.Transmit, k.band.Element.PowerOn(i)
	}
	return errors.Join(err, k.keep())
}

// PowerOff takes power away.
func (k *keptCard) PowerOff() {
	k.lock.Lock()
	defer k.lock.Unlock()
	k.band.Leave()
}

// Transmit answers one command once its effect is kept.
func (k *keptCard) Transmit(c iso7816.Command) (iso7816.Response, error) {
	k.lock.Lock()
	defer k.lock.Unlock()
	r, err := k.contact(c)
	if kept := k.keep(); kept != nil {
		return iso7816.Response{}, fmt.Errorf("%w: %w", iso7816.ErrTorn, kept)
	}
	return r, err
}

// A serveTeller says on the output what happens at the reader, commands left
// out, and writes the whole dialogue to the log.
type serveTeller struct {
	out   io.Writer
	json  bool
	talk  *talkLog
	clock clock.Clock
	lock  sync.Mutex // of out: readers and phones speak at once
	err   error
}

var serveWords = map[pcsc.Kind]string{
	pcsc.Connected: "the reader is there", pcsc.Disconnected: "the reader is gone", pcsc.Torn: "torn: the card has left without an answer",
}

func (t *serveTeller) hear(e pcsc.Event) {
	if err := t.talk.write(t.clock.Now(), e); t.err == nil {
		t.err = err
	}
	if w, ok := serveWords[e.Kind]; ok {
		if e.Err != nil && !pcsc.Lost(e.Err) {
			w += ": " + e.Err.Error()
		}
		t.say(string(e.Kind), w)
	}
}

func (t *serveTeller) say(kind, text string) {
	t.lock.Lock()
	defer t.lock.Unlock()
	at := t.clock.Now().UTC().Format(time.RFC3339)
	if t.json {
		_ = json.NewEncoder(t.out).Encode(map[string]string{"time": at, "event": kind, "text": text})
		return
	}
	fmt.Fprintf(t.out, "%s  %s\n", at, text)
}
