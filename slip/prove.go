package slip

import (
	"context"
	"crypto/ed25519"
	"fmt"

	"koala/internal/db"
	"koala/internal/openkey"
)

// List lists the public keys of slips.
func (d *Desk) List(ctx context.Context) (book openkey.Book, err error) {
	var list []ed25519.PublicKey
	if list, err = d.Keys.PublicKeys(ctx, Label); err != nil {
		return nil, fmt.Errorf("keys of slips: %w", err)
	}
	for _, k := range list {
		book = append(book, openkey.Of(openkey.Slips, k))
	}
	return book, nil
}

// Check proves one slip: its bytes are its hash's, the key that it names signed
// them, and, where a cardholder signed by hand, which picture that is.
func (k *Kept) Check(book openkey.Book) error {
	err := fmt.Errorf("its bytes or what it is found by were changed: %w", ErrProof)
	if !k.misfiled && chained(k.Bytes) == k.Hash {
		err = book.Check(openkey.Slips, k.Key, k.Bytes, k.Signature)
	}
	if err == nil && k.Signed.Key != "" {
		err = book.Check(openkey.Slips, k.Signed.Key, k.SignedMessage(), k.Signed.Signature)
	}
	if err != nil {
		return fmt.Errorf("slip of %.20q: %w: %w", k.RRN, ErrProof, err)
	}
	return nil
}

// proveChunk bounds the slips in memory at once.
const proveChunk = 200

// Prove proves every slip and every terminal's chain up to its last, and says
// what is wrong: of a chain its first flaw.
func (d *Desk) Prove(ctx context.Context) (wrong []string, err error) {
	book, err := d.List(ctx)
	if err != nil {
		return nil, err
	}
	var last Kept
	broken := ""
	over := func(next string) error { // of a terminal's slips
		if last.TID == "" || last.TID == next || broken == last.TID {
			return nil
		}
		return d.Store.Read(ctx, func(q *db.Query) error {
			number, hash, err := chainOf(q, last.TID)
			if err == nil && (number != last.Number || hash != last.Hash) {
				wrong = append(wrong, fmt.Sprintf("slips of terminal %s end with number %d, there were %d", last.TID, last.Number, number))
			}
			return err
		})
	}
	for page := []Kept{last}; len(page) > 0; {
		err = d.Store.Read(ctx, func(q *db.Query) (err error) {
			page, err = kept(q, `tid > $1 OR (tid = $1 AND number > $2) ORDER BY tid, number LIMIT $3`, last.TID, last.Number, proveChunk)
			return err
		})
		for i := 0; i < len(page) && err == nil; i++ {
			k := page[i]
			err = over(k.TID)
			if flaw := k.after(last, book); flaw != nil && broken != k.TID {
				broken = k.TID
				wrong = append(wrong, flaw.Error())
			}
			last = k
		}
		if err != nil {
			return nil, err
		}
	}
	if err = over(""); err != nil {
		return nil, err
	}
	lost, err := d.lost(ctx)
	return append(wrong, lost...), err
}

// lost names terminals that had slips and have none.
func (d *Desk) lost(ctx context.Context) (wrong []string, err error) {
	err = d.Store.Read(ctx, func(q *db.Query) error {
		return db.Each(q, func(scan func(...any) error) error {
			var tid string
			err := scan(&tid)
			wrong = append(wrong, "all slips of terminal "+tid+" are gone")
			return err
		}, `SELECT tid FROM slip_chain WHERE NOT EXISTS (SELECT 1 FROM slip WHERE slip.tid = slip_chain.tid) ORDER BY tid`)
	})
	return wrong, err
}

// after checks a slip, and that it follows the last one that was looked at.
func (k *Kept) after(last Kept, book openkey.Book) error {
	number, prev := int64(1), [32]byte{}
	if last.TID == k.TID {
		number, prev = last.Number+1, last.Hash
	}
	if err := k.Check(book); err != nil {
		return err
	}
	if k.Number != number || k.Prev != prev {
		return fmt.Errorf("slip %d of terminal %s does not follow the one before: %w", k.Number, k.TID, ErrProof)
	}
	return nil
}
