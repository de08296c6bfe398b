package switching

import (
	"context"
	"errors"
	"fmt"

	"koala/hsm"
	"koala/internal/db"
	"koala/internal/fail"
	"koala/spec/dukpt"
)

// ErrTransport is an installation that nobody has prepared.
var ErrTransport = fail.Define(fail.Conflict, "switching.no_transport", "the terminal has no transport key; staff open it for installation and make one")

// transportStep keeps the transport keys of terminals that wait for their
// installation.
const transportStep = `CREATE TABLE switching_transport (tid TEXT PRIMARY KEY, sealed BYTEA NOT NULL, made BIGINT NOT NULL)`

// A Transport is a terminal's transport key between the hsm, which drew it, and
// the unit that keeps it (Keep). Form goes to the installer and is not kept.
type Transport struct {
	Form   hsm.TransportForm
	sealed []byte
}

// DrawTransport draws a transport key; it counts once a unit has kept it.
func (h *Host) DrawTransport(ctx context.Context, tid string) (t Transport, err error) {
	if t.Form, t.sealed, err = h.keys.NewTransport(ctx, tid); err != nil {
		err = fmt.Errorf("transport key of terminal %s: %w", tid, err)
	}
	return t, err
}

// Keep gives the key to its terminal; one that it had is worthless from then on.
func (t Transport) Keep(tx *db.Tx) error {
	_, err := tx.Exec(`INSERT INTO switching_transport (tid, sealed, made) VALUES ($1, $2, $3) ON CONFLICT (tid) DO UPDATE SET sealed = excluded.sealed, made = excluded.made`,
		t.Form.TID, t.sealed, tx.Now().UnixMicro())
	return err
}

// InstallOnce installs a terminal under the transport key that it was given, and
// forgets that key: whatever becomes of the answer, it is good for one time.
// ksn is nil but for a reader with a key per transaction. note is told in the
// unit that takes the transport key.
func (h *Host) InstallOnce(ctx context.Context, tid string, ksn *dukpt.KSN, note func(*db.Tx) error) (hsm.Injected, error) {
	var transport []byte
	err := h.store.Write(ctx, func(tx *db.Tx) error {
		err := tx.QueryRow(`SELECT sealed FROM switching_transport WHERE tid = $1`, tid).Scan(&transport)
		if errors.Is(err, db.ErrNoRows) {
			err = ErrTransport
		}
		if err == nil {
			_, err = tx.Exec(`DELETE FROM switching_transport WHERE tid = $1`, tid)
		}
		if err == nil {
			err = note(tx)
		}
		return err
	})
	if err != nil {
		return hsm.Injected{}, fmt.Errorf("installing terminal %s: %w", tid, err)
	}
	if ksn != nil {
		return h.InstallReader(ctx, tid, *ksn, transport)
	}
	return h.Install(ctx, tid, transport)
}
