package cash

import (
	"context"
	"fmt"
	"net/http"

	"koala/settlement"
	"koala/web/merchant/shell"
)

// Keys are the house's keys for bills.
type Keys interface {
	// Signer signs with the newest key.
	Signer(ctx context.Context) (settlement.Signer, error)
	// Check verifies bills under the keys there are and were.
	Check(ctx context.Context) settlement.BillCheck
	// KeyOf is the id of the key of a bill, empty when it verifies under none.
	KeyOf(ctx context.Context, b *settlement.Bill) string
}

// atKeys is the open page of the house's public keys.
const atKeys = "/keys"

// billSignature is the file beside a bill's, for whoever checks it elsewhere.
func (d Deps) billSignature(w http.ResponseWriter, r *http.Request, s shell.Seat) error {
	v, err := d.readBill(r, s)
	if err != nil {
		return err
	}
	return shell.Download(w, "bill-"+v.bill.Period+".csv.sig", "text/plain; charset=utf-8", v.bill.SignatureFile(d.Bills.KeyOf(r.Context(), &v.bill)))
}

// howToCheck are the commands that check a bill without this house.
func howToCheck(b settlement.Bill, key string) string {
	lines := 8
	if b.Form == settlement.OldForm {
		lines = 6
	}
	name := "bill-" + b.Period + ".csv"
	return fmt.Sprintf(`openssl dgst -sha256 %[1]s
head -n %[2]d %[1]s.sig > message
sed -n 's/^signature: //p' %[1]s.sig | openssl base64 -d -A > signature
openssl pkeyutl -verify -pubin -inkey %[3]s.pem -rawin -in message -sigfile signature`, name, lines, key)
}
