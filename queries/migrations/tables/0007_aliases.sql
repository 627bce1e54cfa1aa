-- Names that brokers give to instruments of 0001_instruments.sql. A row that is there already is kept.
INSERT INTO public.instruments (symbol, contract_size, pip_size, quote_currency) VALUES
    ('GOLD', 100, 0.01, 'USD'), ('SILVER', 5000, 0.001, 'USD'), ('PLATINUM', 100, 0.01, 'USD'), ('PALLADIUM', 100, 0.01, 'USD'),
    ('WTI', 1000, 0.01, 'USD'), ('USOUSD', 1000, 0.01, 'USD'), ('BRENT', 1000, 0.01, 'USD'), ('UKOUSD', 1000, 0.01, 'USD'),
    ('DJ30', 1, 1, 'USD'), ('WS30', 1, 1, 'USD'), ('DOW30', 1, 1, 'USD'), ('SPX500', 1, 0.1, 'USD'), ('SP500', 1, 0.1, 'USD'),
    ('US100', 1, 0.1, 'USD'), ('USTEC', 1, 0.1, 'USD'), ('NDX100', 1, 0.1, 'USD'), ('RUSSELL2000', 1, 0.1, 'USD'),
    ('DE40', 1, 0.1, 'EUR'), ('DAX40', 1, 0.1, 'EUR'), ('GER30', 1, 0.1, 'EUR'), ('DE30', 1, 0.1, 'EUR'),
    ('EU50', 1, 0.1, 'EUR'), ('STOXX50', 1, 0.1, 'EUR'), ('FR40', 1, 0.1, 'EUR'), ('FTSE100', 1, 0.1, 'GBP'),
    ('JP225', 1, 1, 'JPY'), ('AU200', 1, 0.1, 'AUD'), ('HSI50', 1, 1, 'HKD')
ON CONFLICT (symbol) DO NOTHING;
