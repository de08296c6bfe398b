package main

import (
	"github.com/spf13/cobra"

	"koala/issuing"
)

func traceLoadCommand() *cobra.Command {
	var f traceFlags
	c := f.command("load", "Money goes from the card's account onto its e-cash over the air",
		"  koala trace load --amount 10000\n  koala trace load --cut 2", (*scene).load)
	c.Flags().Int64Var(&f.amount, "amount", 100_00, "fen to load")
	return c
}

// load tells how money comes onto an e-cash card.
func (s *scene) load(f *traceFlags) error {
	s.product = issuing.ECashCard
	return s.topping(f, "load", [4][2]say{
		{say{"An e-cash card without money", "一张没有钱的电子现金卡"}, say{
			"Lin has a wallet with money and an e-cash card in the band. The card has been issued over the air before (koala trace issue --card quickpass).",
			"林的钱包里有钱，手环里有一张电子现金卡，此前已通过空中发卡写入（koala trace issue --card quickpass）。"}},
		{say{"The order", "下单"}, say{
			"Placing the order sets the amount aside: it can be spent on nothing else, and it is not gone.",
			"下单即冻结该金额：不能另作他用，也尚未支出。"}},
		{say{"The card goes online with its issuer", "卡片与发卡行联机"}, say{
			"The agent reads the card's lists, the card makes a request cryptogram (ARQC) for a load. The house verifies it, binds the load to the card's counter and answers with ARPC and a script: PUT DATA of the new balance under the card's MAC. The card's signed load log is the proof.",
			"手环代理读取数据对象列表，卡片为圈存生成请求密文 ARQC。平台验证后把圈存绑定到卡片计数器，应答 ARPC 与脚本：以卡片 MAC 保护的新余额 PUT DATA。卡片签名的圈存日志为证明。"}},
		{say{"What it came to", "结果"}, say{
			"The float account of the card is what the card holds: loaded less spent.",
			"卡片资金账户即卡内余额：圈存减去消费。"}},
	})
}
