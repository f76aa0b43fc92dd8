"""Green financial products 绿色金融产品 and the offers 权益 on them: documents, their listing, the board."""
