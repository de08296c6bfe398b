package wallet

import (
	"context"
	"fmt"

	"koala/customer"
	"koala/ledger"
)

// BalanceOf is what a customer has, as committed: posted, held for orders under
// way, and available.
func BalanceOf(book *ledger.Book, c customer.ID) (ledger.Balance, error) {
	b, err := book.Balance(Account(c))
	if err != nil {
		return ledger.Balance{}, fmt.Errorf("wallet of %s: %w", c, noWallet(err))
	}
	return b, nil
}

// A Movement is one line of a wallet's history in people's words. Amount is
// positive when money came in.
type Movement struct {
	ledger.Line
	EN, ZH string
}

// History reads a wallet's movements, newest first, before line number before
// (0: from the newest). The next page begins before the last one's Nth.
func History(ctx context.Context, book *ledger.Book, c customer.ID, before uint64, limit int) ([]Movement, error) {
	lines, err := book.Recent(ctx, Account(c), before, limit)
	if err != nil {
		return nil, fmt.Errorf("history of wallet %s: %w", c, noWallet(err))
	}
	return told(lines), nil
}

// Statement reads the same lines oldest first, from line number from on (1 is
// the first), each with the balance after it.
func Statement(ctx context.Context, book *ledger.Book, c customer.ID, from uint64, limit int) ([]Movement, error) {
	lines, err := book.Statement(ctx, Account(c), from, limit)
	if err != nil {
		return nil, fmt.Errorf("statement of wallet %s: %w", c, noWallet(err))
	}
	return told(lines), nil
}

func told(lines []ledger.Line) []Movement {
	out := make([]Movement, len(lines))
	for i, l := range lines {
		out[i] = Movement{Line: l, EN: l.Text, ZH: l.Text}
		if w, ok := kindWords[l.Kind]; ok {
			out[i].EN, out[i].ZH = w[0], w[1]
		}
	}
	return out
}

// kindWords names the entries that touch a wallet. The bank is simulated and
// says so.
var kindWords = map[string][2]string{
	"wallet.fund":       {"from my bank account (simulated bank)", "银行卡转入（模拟银行）"},
	"wallet.withdraw":   {"to my bank account (simulated bank)", "转出到银行卡（模拟银行）"},
	"wallet.paid":       {"paid by payment code", "付款码支付"},
	"wallet.returned":   {"goods returned", "退货"},
	"wallet.reversed":   {"payment reversed", "消费冲正"},
	"card.deposit":      {"card deposit", "卡押金"},
	"card.deposit_back": {"card deposit returned", "退还卡押金"},
	"card.refund":       {"balance of a returned card", "退卡余额"},
	"capture":           {"card top-up", "交通卡充值"},
	"card.payment":      {"card payment", "刷卡消费"},
	"card.load":         {"e-cash load", "电子现金圈存"},
	"card.reversal":     {"payment reversed", "消费冲正"},
	"card.returned":     {"goods returned", "退货"},
	"card.moved":        {"balance of a lost card", "挂失卡余额转出"},
	"card.repayment":    {"card bill paid", "信用卡还款"},
}
