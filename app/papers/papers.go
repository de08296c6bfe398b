// Package papers are the keys that a house signs papers with: each kind of paper
// has a key of its own, whose public half anybody gets. Start at Desk.
package papers

import (
	"context"
	"crypto/ed25519"
	"fmt"

	"koala/hsm"
	"koala/internal/db"
	"koala/internal/openkey"
	"koala/settlement"
	"koala/slip"
	"koala/switching/pack"
)

// A Desk signs and checks papers.
type Desk struct {
	Store *db.Store
	Keys  *hsm.HSM
}

// List lists the public keys that a paper of this house can be checked with:
// every version, since what was signed under an older one goes on verifying.
func (d Desk) List(ctx context.Context) (book openkey.Book, err error) {
	uses := []struct {
		use   openkey.Use
		label string
	}{{openkey.OldBills, hsm.LabelPack}, {openkey.Bills, settlement.BillLabel}, {openkey.Slips, slip.Label}, {openkey.Packs, pack.Label}}
	old := false
	err = d.Store.Read(ctx, func(q *db.Query) (err error) {
		old, err = settlement.OldBills(q)
		return err
	})
	if !old {
		uses = uses[1:]
	}
	for _, u := range uses {
		var list []ed25519.PublicKey
		if err == nil {
			list, err = d.Keys.PublicKeys(ctx, u.label)
		}
		for _, k := range list {
			book = append(book, openkey.Of(u.use, k))
		}
	}
	return book, err
}

// Signer signs bills with the newest key. A key that is rotated between the two
// steps is noticed: the id in the message must be the signature's.
func (d Desk) Signer(ctx context.Context) (settlement.Signer, error) {
	public, err := d.Keys.PublicKey(ctx, settlement.BillLabel)
	if err != nil {
		return settlement.Signer{}, fmt.Errorf("key for bills: %w", err)
	}
	return settlement.Signer{Key: openkey.ID(public), Sign: func(message []byte) ([]byte, error) {
		signature, err := d.Keys.Sign(ctx, settlement.BillLabel, message)
		if err == nil && !ed25519.Verify(public, message, signature) {
			err = fmt.Errorf("the key for bills was rotated meanwhile; ask again: %w", hsm.ErrSignature)
		}
		return signature, err
	}}, nil
}

// Check verifies bills of both forms.
func (d Desk) Check(ctx context.Context) settlement.BillCheck {
	var book openkey.Book // of bills in the new form
	return func(form int, key string, message, signature []byte) error {
		if form == settlement.OldForm {
			return d.Keys.Verify(ctx, hsm.LabelPack, message, signature)
		}
		if book == nil {
			list, err := d.Keys.PublicKeys(ctx, settlement.BillLabel)
			if err != nil {
				return err
			}
			for _, k := range list {
				book = append(book, openkey.Of(openkey.Bills, k))
			}
		}
		return book.Check(openkey.Bills, key, message, signature)
	}
}

// KeyOf is the id of the key that signed a bill, empty when none of the house's did.
func (d Desk) KeyOf(ctx context.Context, b *settlement.Bill) string {
	if b.Form != settlement.OldForm {
		return b.Key
	}
	list, err := d.Keys.PublicKeys(ctx, hsm.LabelPack)
	if err != nil {
		return "" // the page says that the bill does not prove
	}
	for _, k := range list {
		if ed25519.Verify(k, b.Message(), b.Signature) {
			return openkey.ID(k)
		}
	}
	return ""
}

// Prove proves every payee's chain of bills.
func (d Desk) Prove(ctx context.Context) (wrong []string, err error) {
	err = d.Store.Read(ctx, func(q *db.Query) (err error) {
		wrong, err = settlement.ProveBills(q, d.Check(ctx))
		return err
	})
	return wrong, err
}
